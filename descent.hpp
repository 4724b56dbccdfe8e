#pragma once
/// @file
/// The public interface of descent: programs include this header.

/// @namespace descent
/// Tensors, operations on them and their gradients.
/// @namespace descent::nn
/// Modules, layers and losses.
/// @namespace descent::optim
/// Update rules, and the explanation of each step.
/// @namespace descent::data
/// Datasets, loaders and readers of files.
/// @namespace descent::vmath
/// Functions of one number that a compiler vectorises.
/// @namespace descent::simd
/// Loops that use the widest vectors of the processor.

#include "descent/core/autograd/backward.hpp"
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
#include "descent/data/csv.hpp"
#include "descent/data/dataset.hpp"
#include "descent/data/idx.hpp"
#include "descent/data/loader.hpp"
#include "descent/data/mnist.hpp"
#include "descent/data/progress.hpp"
#include "descent/nn/init.hpp"
#include "descent/nn/layers.hpp"
#include "descent/nn/loss.hpp"
#include "descent/nn/module.hpp"
#include "descent/nn/summary.hpp"
#include "descent/optim/adam.hpp"
#include "descent/optim/average.hpp"
#include "descent/optim/insight/ledger.hpp"
#include "descent/optim/insight/plot.hpp"
#include "descent/optim/lbfgs.hpp"
#include "descent/optim/rules.hpp"
#include "descent/optim/schedule.hpp"
#include "descent/optim/tensor_rules.hpp"
#include "descent/optim/wrappers.hpp"
