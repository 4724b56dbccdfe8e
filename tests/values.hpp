#pragma once
#include <vector>

#include "descent/descent.hpp"

using Values = std::vector<double>;
inline Values values(const descent::Tensor& x) { return x.to_vector<double>(); }
