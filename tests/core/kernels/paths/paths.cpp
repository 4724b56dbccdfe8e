#include "paths.hpp"

#include <algorithm>
#include <cstdio>
#include <doctest/doctest.h>

namespace paths {

uint64_t Random::next() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15ULL;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
  return z ^ z >> 31;
}

// ---- cases

std::vector<int64_t> range(int64_t first, int64_t last) {
  std::vector<int64_t> values;
  for (int64_t v = first; v <= last; ++v) values.push_back(v);
  return values;
}

std::vector<Factor> with(std::vector<Factor> factors, const std::vector<Factor>& others) {
  for (const Factor& other : others)
    for (Factor& factor : factors)
      if (factor.name == other.name) factor.values = other.values;
  return factors;
}

int64_t Case::operator[](const char* name) const {
  for (std::size_t i = 0; i < values_.size(); ++i)
    if ((*factors_)[i].name == name) return values_[i];
  FAIL("there is no factor " << name);
  return 0;
}

std::string Case::str() const {
  std::string text;
  for (std::size_t i = 0; i < values_.size(); ++i)
    text += (*factors_)[i].name + " " + std::to_string(values_[i]) + " ";
  return text;
}

namespace {

/// Makes the cases: choices are indices into the factors' values.
class Covering {
 public:
  using Choices = std::vector<std::size_t>;

  Covering(Cases& cases, const std::function<bool(const Case&)>& accepts, uint64_t seed)
      : cases_(cases), accepts_(accepts), random_(seed) {
    for (const Factor& f : cases.factors) {
      first_.push_back(all_);
      all_ += f.values.size();
    }
    covered_.assign(all_ * all_, false);
  }

  void pairs() {
    const std::size_t n = cases_.factors.size();
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = a + 1; b < n; ++b)
        for (std::size_t v = 0; v < cases_.factors[a].values.size(); ++v)
          for (std::size_t w = 0; w < cases_.factors[b].values.size(); ++w) {
            if (covered(a, v, b, w)) continue;
            if (!complete({{a, v}, {b, w}}, 8)) ++cases_.impossible;
          }
  }
  void triple() {
    std::map<std::size_t, std::size_t> fixed;
    while (fixed.size() < std::min<std::size_t>(3, cases_.factors.size())) {
      const std::size_t a = below(cases_.factors.size());
      fixed[a] = below(cases_.factors[a].values.size());
    }
    complete(fixed, 1);
  }

 private:
  std::size_t below(std::size_t n) {
    return static_cast<std::size_t>(random_.below(static_cast<int64_t>(n)));
  }
  std::vector<bool>::reference covered(std::size_t a, std::size_t v, std::size_t b, std::size_t w) {
    return covered_[(first_[a] + v) * all_ + first_[b] + w];
  }

  /// Adds a case with what is fixed: of `candidates` accepted ones that with the most new pairs.
  bool complete(const std::map<std::size_t, std::size_t>& fixed, int candidates) {
    const std::size_t n = cases_.factors.size();
    Choices best;
    int64_t most = -1;
    for (int tries = 0; tries < 4000 && candidates > 0; ++tries) {
      Choices choices(n);
      std::vector<int64_t> values(n);
      for (std::size_t i = 0; i < n; ++i) {
        const auto given = fixed.find(i);
        choices[i] = given == fixed.end() ? below(cases_.factors[i].values.size()) : given->second;
        values[i] = cases_.factors[i].values[choices[i]];
      }
      if (!accepts_(Case(cases_.factors, values))) continue;
      --candidates;
      int64_t found = 0;
      for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = a + 1; b < n; ++b) found += !covered(a, choices[a], b, choices[b]);
      if (found <= most) continue;
      most = found;
      best = choices;
    }
    if (best.empty()) return false;
    std::vector<int64_t> values(n);
    for (std::size_t i = 0; i < n; ++i) values[i] = cases_.factors[i].values[best[i]];
    cases_.values.push_back(values);
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = a + 1; b < n; ++b) {
        auto pair = covered(a, best[a], b, best[b]);
        if (!pair) ++cases_.pairs;
        pair = true;
      }
    return true;
  }

  Cases& cases_;
  const std::function<bool(const Case&)>& accepts_;
  Random random_;
  std::vector<std::size_t> first_;
  std::size_t all_ = 0;
  std::vector<bool> covered_;
};

}  // namespace

Cases::Cases(std::vector<Factor> factors_, std::function<bool(const Case&)> accepts,
             int64_t triples, uint64_t seed, bool all_pairs)
    : factors(std::move(factors_)) {
  Covering covering(*this, accepts, seed);
  if (all_pairs) covering.pairs();
  for (int64_t i = 0; i < triples; ++i) covering.triple();
}

// ---- operands

namespace {

/// A view of `shape` on other elements, of which `make` makes a tensor.
Tensor lay_out(const Shape& shape, int64_t layout,
               const std::function<Tensor(const Shape&)>& make) {
  const int rank = shape.rank();
  Shape base = shape;
  if (rank == 0 || layout == plain) return make(base);
  switch (layout) {
    case reversed: {
      Dims axes{};
      for (int i = 0; i < rank; ++i) {
        base[i] = shape[rank - 1 - i];
        axes.push_back(rank - 1 - i);
      }
      return make(base).permute(axes);
    }
    case gapped: base[rank - 1] += 3; return make(base).narrow(-1, 2, shape.back());
    case every_second: base[rank - 1] *= 2; return slice(make(base), -1, 1, INT64_MAX, 2);
    case swapped:
      if (rank == 1) return make(base);
      std::swap(base[rank - 1], base[rank - 2]);
      return make(base).transpose(-1, -2);
    default: base[0] = std::min<int64_t>(base[0], 1); return make(base).expand(shape);
  }
}

/// The elements of a view, by its strides.
template <class T> std::vector<double> read(const Tensor& x) {
  const detail::Header& h = *Peek::header(x);
  const T* const from = reinterpret_cast<const T*>(h.data);
  std::vector<double> values;
  for (int64_t i = 0; i < h.numel; ++i) {
    int64_t at = 0, rest = i;
    for (int d = h.shape.rank() - 1; d >= 0; rest /= h.shape[d--])
      at += rest % h.shape[d] * h.strides[d];
    values.push_back(static_cast<double>(from[at]));
  }
  return values;
}

}  // namespace

Operand operand(Random& random, const Shape& shape, DType dtype, int64_t layout, int64_t kind,
                double size) {
  const Tensor view = lay_out(shape, layout, [&](const Shape& base) {
    std::vector<double> elements;
    for (int64_t i = 0; i < Expected::count(base); ++i) {
      const double v = random.uniform();
      if (kind == some_nan && random.below(8) == 0) elements.push_back(std::nan(""));
      else elements.push_back(size * (kind == ties ? std::floor(2 * v) / 2 : v));
    }
    return tensor(elements, base, dtype);
  });
  const Tensor leaf = view.detach();
  leaf.requires_grad_();
  return {leaf, dtype == float64 ? read<double>(leaf) : read<float>(leaf)};
}

// ---- what served

namespace {

struct Bound {
  std::string_view path;
  double eps;
};
/// By theory a sum of n terms in lanes and blocks is off by far less than n / 2, and mostly by one
/// or two; a wrong term makes a difference of 1 / n of all, a thousand times as much and more.
constexpr double kUsual = 8;
constexpr Bound kOthers[] = {
    {"winograd forward", 60}, {"winograd input", 60}, {"winograd weight", 60}};

bool is_winograd(std::string_view path) { return path.starts_with("winograd"); }

}  // namespace

double eps_of(DType dtype) {
  return dtype == float64 ? std::numeric_limits<double>::epsilon()
                          : static_cast<double>(std::numeric_limits<float>::epsilon());
}

double bound(std::string_view path) {
  for (const Bound& other : kOthers)
    if (other.path == path) return other.eps;
  return kUsual;
}

void Tally::compare(const std::string& what, const Case& c, const std::function<Tensor()>& f,
                    const Expected& expected) {
  for (detail::PathState& state : detail::path_states) state.calls = 0;
  const Tensor got = f();
  std::vector<std::size_t> entered;
  double most = 0;
  bool spread = false;
  for (std::size_t i = 0; i < std::size(detail::kPaths); ++i) {
    if (detail::path_states[i].calls == 0) continue;
    entered.push_back(i);
    most = std::max(most, bound(detail::kPaths[i]));
    spread = spread || is_winograd(detail::kPaths[i]);
  }
  if (entered.empty()) most = kUsual;
  ++comparisons;

  const bool exact = got.dtype() == float64;
  const double eps = eps_of(got.dtype());
  const double tiny = exact ? 1e-300 : 1e-37;
  const std::vector<double> values = got.to_vector<double>();
  double worst = 0;
  std::size_t where = 0;
  // Winograd's tiles mix neighbouring elements: the largest scale among them is each one's.
  double largest = 0;
  for (const double scale : expected.scale)
    if (spread) largest = std::max(largest, scale);
  for (std::size_t i = 0; i < expected.sum.size() && got.shape() == expected.shape; ++i) {
    const double off = std::abs(values[i] - expected.sum[i]);
    const double units = off / (eps * std::max(largest, expected.scale[i]) + tiny);
    if (units <= worst) continue;
    if (std::isnan(units) && std::isnan(values[i]) == std::isnan(expected.sum[i])) continue;
    worst = std::isnan(units) ? std::numeric_limits<double>::infinity() : units;
    where = i;
  }
  std::string served;
  for (const std::size_t i : entered) {
    const std::string name(detail::kPaths[i]);
    Path& path = paths_[name];
    ++path.comparisons[exact];
    path.calls += detail::path_states[i].calls;
    if (bound(name) == most) path.worst = std::max(path.worst, worst);
    served += " [" + name + "]";
  }
  if (got.shape() == expected.shape && worst <= most) return;
  ++failures;
  std::string text = what + ", " + (exact ? "float64" : "float32") + ", " + c.str() + "by" + served;
  if (!(got.shape() == expected.shape))
    text += ": shape " + str(got.shape()) + " instead of " + str(expected.shape);
  else
    text += ": [" + std::to_string(where) + "] is " + std::to_string(values[where]) +
            " instead of " + std::to_string(double(expected.sum[where])) + ", off by " +
            std::to_string(worst) + " eps sum|terms|; at most " + std::to_string(most);
  report(what + served, text);
}

void Tally::report(const std::string& kind, const std::string& text) {
  constexpr std::size_t kReports = 40;  // a fault shows in hundreds of cases
  if (reported_[kind]++ == 0 && reported_.size() <= kReports) FAIL_CHECK(text);
}

void Tally::compare_gradients(const std::string& op, const Case& c, const Tensor& y,
                              const Tensor& g, const std::vector<Gradient>& gradients) {
  for (const Gradient& gradient : gradients)
    compare(
        op + " " + gradient.name, c,
        [&] { return grad({y}, {gradient.input}, {.retain_graph = true}, {g})[0]; },
        gradient.expected);
}

void Tally::sweep(const char* name, const Cases& cases, int64_t impossible,
                  const std::function<void(const Case&)>& f) {
  const int64_t before = comparisons;
  const simd::Isa best = simd::detect_isa();
  int64_t run = 0;
  for (std::size_t i = 0; i < cases.values.size(); i += kShare, ++run) {
    simd::detail::current_isa = std::min(best, static_cast<simd::Isa>(run % 3));
    f(Case(cases.factors, cases.values[i]));
  }
  simd::detail::current_isa = best;
  pairs += cases.pairs;
  const std::string named = name;
  CAPTURE(named);
  CHECK(cases.impossible == impossible);
  std::printf(
      "sweep of %s: %lld of %zu cases, %lld pairs and %lld that nothing has, "
      "%lld comparisons\n",
      name, static_cast<long long>(run), cases.values.size(), static_cast<long long>(cases.pairs),
      static_cast<long long>(cases.impossible), static_cast<long long>(comparisons - before));
}

}  // namespace paths
