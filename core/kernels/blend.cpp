#include "descent/core/kernels/blend.hpp"

#include "descent/core/kernels/elementwise.hpp"

namespace [[gnu::visibility("default")]] descent {

template <class T, class From>
static void blend_as(const Tensor& into, const Tensor& from, double weight) {
  const bool near = weight < 0.5;
  const auto share = static_cast<T>(near ? weight : weight - 1);
  auto mix = [=](T a, From b_) {
    const auto b = static_cast<T>(b_);
    return weight == 1 ? b : (near ? a : b) + share * (b - a);
  };
  detail::transform<T>(mix, into, detail::Operand<T>(into), detail::Operand<From>(from));
}

void blend(const char* op, const Tensor& into, const Tensor& from, double weight) {
  will_write(op, into, At::unknown());
  visit<Kinds::floating>(op, into.dtype(), At::unknown(), [&]<class T>(T) {
    visit<Kinds::floating>(op, from.dtype(), At::unknown(),
                           [&]<class From>(From) { blend_as<T, From>(into, from, weight); });
  });
}

}  // namespace descent
