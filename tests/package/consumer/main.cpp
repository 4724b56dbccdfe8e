// A user's program: fits a line, catches the library's errors, and shares headers with second.cpp.
#include <cmath>
#include <cstdio>
#include <descent/descent.hpp>
#include <exception>

using namespace descent;

Tensor squared_error(const In& y, const In& target);  // second.cpp

namespace {

/// y = 2x + 1 from four points.
bool fits_a_line() {
  Tensor x = tensor({0., 1., 2., 3.}), y = tensor({1., 3., 5., 7.});
  Tensor w = tensor({0.}).requires_grad_(), b = tensor({0.}).requires_grad_();
  optim::SGD sgd({{"w", w}, {"b", b}}, {.lr = 0.1});
  for (int step = 0; step < 500; ++step) {
    sgd.zero_grad();
    squared_error(w * x + b, y).mean().backward();
    sgd.step();
  }
  {
    NoGradGuard guard;
    w -= 0.0 * w.grad();
  }
  std::printf("w = %.4f, b = %.4f\n", w.item(), b.item());
  return std::abs(w.item() - 2) < 1e-3 && std::abs(b.item() - 1) < 1e-3;
}

/// An error thrown inside the library arrives as its own type, and as its bases.
template <class Caught> bool catches() {
  try {
    static_cast<void>(matmul(tensor({{1., 2.}}), tensor({{1., 2.}})));
  } catch (const Caught& error) {
    std::printf("%s\n", error.what());
    return true;
  } catch (...) {}
  return false;
}

}  // namespace

int main() {
  bool ok = fits_a_line() && catches<ShapeError>() && catches<Error>() && catches<std::exception>();
  return ok ? 0 : 1;
}
