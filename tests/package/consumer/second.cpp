#include <descent/descent.hpp>

descent::Tensor squared_error(descent::In y, descent::In target);
descent::Tensor squared_error(descent::In y, descent::In target) {
  return (y - target) * (y - target);
}
