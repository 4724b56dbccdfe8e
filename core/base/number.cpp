#include "descent/core/base/number.hpp"

namespace [[gnu::visibility("default")]] descent {

std::string str(const Number& number) {
  return number.visit([](auto v) { return str(v); });
}

namespace detail {

void refuse_element(const char* op, int64_t position, const Shape& shape, Number value, Number low,
                    Number high, At at) {
  const std::string element =
      shape.rank() == 0 ? "the element" : "element " + str(indices_of(position, shape));
  fail<ValueError>(at, "{}: {} is {}: need a number from {} to {}", op, element, value, low, high);
}

void refuse_scalar(const char* op, DType dtype, Number value, At at) {
  if (dtype == int64)
    fail<DtypeError>(
        at, "{}: an int64 tensor with {}: need a whole number from -2^63 to 2^63 - 1 (use to())",
        op, value);
  if (dtype == boolean)
    fail<DtypeError>(at, "{}: a bool tensor with {}: need 0 or 1 (use to())", op, value);
  fail<ValueError>(
      at, "{}: a float32 tensor with {}: need at most 3.4028235e38 in size (use to(float64))", op,
      value);
}

}
}  // namespace descent::detail
