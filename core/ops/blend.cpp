#include "descent/core/ops/blend.hpp"

#include <algorithm>

#include "descent/core/graph/graph.hpp"
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

static void blend_one(const char* op, const Tensor& into, const Tensor& from, double weight) {
  will_write(op, into, At::unknown());
  visit<Kinds::floating>(op, into.dtype(), At::unknown(), [&]<class T>(T) {
    visit<Kinds::floating>(op, from.dtype(), At::unknown(),
                           [&]<class From>(From) { blend_as<T, From>(into, from, weight); });
  });
}

void check_blend(const char* who, NamedSpan into, NamedSpan from, At at) {
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i) {
    const auto& [name, x] = into[i];
    const auto& [other, y] = from[i];
    if (!(x.shape() == y.shape()) || !is_floating(x.dtype()) || !is_floating(y.dtype()))
      fail<ShapeError>(at, "{}: {} is {} {} and {} is {} {}: need one shape and floating dtypes",
                       who, name, x.dtype(), x.shape(), other, y.dtype(), y.shape());
  }
}

void blend(const char* op, NamedSpan into, NamedSpan from, double weight) {
  check_blend(op, into, from, At::unknown());
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < std::min(into.size(), from.size()); ++i)
    blend_one(op, into[i].second, from[i].second, weight);
}

ElementsGuard::ElementsGuard(const NamedTensors& all) : tensors(all), copies(clone_all(all)) {}
ElementsGuard::~ElementsGuard() {
  NoGradGuard no_grad;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].second.shape() == copies[i].second.shape() &&
        is_floating(tensors[i].second.dtype()))
      blend_one("restore", tensors[i].second, copies[i].second, 1);
}

}  // namespace descent
