#include <descent/descent.hpp>

descent::Tensor squared_error(const descent::In& y, const descent::In& target);
descent::Tensor squared_error(const descent::In& y, const descent::In& target) {
  return (y - target) * (y - target);
}
