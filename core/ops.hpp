#pragma once
// All operations on tensors.

#include "descent/core/arithmetic.hpp"
#include "descent/core/conv.hpp"
#include "descent/core/factory.hpp"
#include "descent/core/indexing.hpp"
#include "descent/core/join.hpp"
#include "descent/core/matmul.hpp"
#include "descent/core/pointwise.hpp"
#include "descent/core/pooling.hpp"
#include "descent/core/reduction.hpp"
#include "descent/core/view.hpp"
