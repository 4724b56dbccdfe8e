#pragma once
/// @file
/// All operations on tensors.

#include "descent/core/ops/activation.hpp"
#include "descent/core/ops/arithmetic.hpp"
#include "descent/core/ops/conv.hpp"
#include "descent/core/ops/factory.hpp"
#include "descent/core/ops/indexing.hpp"
#include "descent/core/ops/join.hpp"
#include "descent/core/ops/loss.hpp"
#include "descent/core/ops/matmul.hpp"
#include "descent/core/ops/normalization.hpp"
#include "descent/core/ops/pointwise.hpp"
#include "descent/core/ops/pooling.hpp"
#include "descent/core/ops/products.hpp"
#include "descent/core/ops/reduction.hpp"
#include "descent/core/ops/resize.hpp"
#include "descent/core/ops/softmax.hpp"
#include "descent/core/ops/sort.hpp"
#include "descent/core/ops/view.hpp"
