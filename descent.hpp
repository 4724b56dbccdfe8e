#pragma once
/// @file
/// The public interface of descent: a program includes this header alone.

/// @mainpage
/// The reference of all public headers; a program includes them by `descent/descent.hpp`. The
/// README of the repository shows a whole program and how to write parts of your own.
///
/// - descent::Tensor and how functions take it: @ref core/tensor/tensor.hpp "tensor".
/// - Operations: @ref core/ops/factory.hpp "making tensors",
///   @ref core/ops/arithmetic.hpp "arithmetic",
///   @ref core/ops/pointwise.hpp "functions of one element",
///   @ref core/ops/activation.hpp "activations",
///   @ref core/ops/reduction.hpp "reductions", @ref core/ops/softmax.hpp "softmax",
///   @ref core/ops/view.hpp "views",
///   @ref core/ops/indexing.hpp "indexing", @ref core/ops/join.hpp "joining",
///   @ref core/ops/matmul.hpp "matrix products", @ref core/ops/conv.hpp "convolution",
///   @ref core/ops/pooling.hpp "pooling", @ref core/ops/loss.hpp "losses",
///   @ref core/ops/random.hpp "random numbers".
/// - Gradients: @ref core/autograd/backward.hpp "backward",
///   @ref core/autograd/gradcheck.hpp "gradcheck", and for operations of your own
///   @ref core/graph/graph.hpp "record" and @ref core/kernels/elementwise.hpp "map and zip".
/// - Models: the namespace descent::nn.
/// - Update rules, and what a step did: the namespace descent::optim.
/// - Data: the namespace descent::data.
/// - Settings: @ref core/runtime/threads.hpp "threads", @ref core/runtime/memory.hpp "memory".

/// @namespace descent
/// Tensors, operations on them and their gradients.
/// @namespace descent::nn
/// Modules, layers and losses.
/// @namespace descent::optim
/// Update rules, and the explanation of each step.
/// @namespace descent::data
/// Datasets, loaders, checkpoints, logs, and readers and writers of files.
/// @namespace descent::vmath
/// Functions of one number that a compiler vectorises.
/// @namespace descent::simd
/// Loops that use the widest vectors of the processor.

#include "descent/core/autograd/anomaly.hpp"
#include "descent/core/autograd/backward.hpp"
#include "descent/core/autograd/functional.hpp"
#include "descent/core/autograd/gradcheck.hpp"
#include "descent/core/inspect/print.hpp"
#include "descent/core/inspect/version.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/core/ops/random.hpp"
#include "descent/core/runtime/memory.hpp"
#include "descent/core/runtime/threads.hpp"
#include "descent/core/tensor/state.hpp"
#include "descent/data/checkpoint.hpp"
#include "descent/data/dataset.hpp"
#include "descent/data/formats/csv.hpp"
#include "descent/data/formats/events.hpp"
#include "descent/data/formats/idx.hpp"
#include "descent/data/formats/image.hpp"
#include "descent/data/formats/npy.hpp"
#include "descent/data/formats/safetensors.hpp"
#include "descent/data/image_folder.hpp"
#include "descent/data/loader.hpp"
#include "descent/data/mnist.hpp"
#include "descent/data/transforms.hpp"
#include "descent/nn/init.hpp"
#include "descent/nn/layers/activation.hpp"
#include "descent/nn/layers/attention.hpp"
#include "descent/nn/layers/container.hpp"
#include "descent/nn/layers/conv.hpp"
#include "descent/nn/layers/dropout.hpp"
#include "descent/nn/layers/embedding.hpp"
#include "descent/nn/layers/linear.hpp"
#include "descent/nn/layers/norm.hpp"
#include "descent/nn/layers/pool.hpp"
#include "descent/nn/layers/recurrent.hpp"
#include "descent/nn/layers/transformer.hpp"
#include "descent/nn/loss.hpp"
#include "descent/nn/metrics.hpp"
#include "descent/nn/module.hpp"
#include "descent/nn/parametrize.hpp"
#include "descent/nn/summary.hpp"
#include "descent/optim/adam.hpp"
#include "descent/optim/average.hpp"
#include "descent/optim/insight/ledger.hpp"
#include "descent/optim/insight/plot.hpp"
#include "descent/optim/insight/progress.hpp"
#include "descent/optim/lbfgs.hpp"
#include "descent/optim/rules.hpp"
#include "descent/optim/schedule.hpp"
#include "descent/optim/tensor_rules.hpp"
#include "descent/optim/wrappers.hpp"
