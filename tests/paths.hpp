#pragma once
#include <cmath>
#include <map>

#include "descent/core/base/paths.hpp"

#include "support.hpp"

// What the comparisons of paths/*.cpp share: cases that cover all pairs of what an operation
// accepts, operands in any layout, results by the definition, and the count for each path.

namespace paths {

using namespace descent;
using detail::Choice;

// ---- how much of it runs

/// Every tenth case under a sanitizer, where each takes ten times as long.
inline constexpr int64_t kShare =
    kAddressSanitizer || kThreadSanitizer || DESCENT_HAS(undefined_behavior_sanitizer) ? 10 : 1;

// ---- cases

/// A small generator of our own: the cases do not depend on what is tested.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 1) {}
  uint64_t next();
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  /// In [-1, 1), with all the bits of a double.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; }

 private:
  uint64_t state_;
};

/// What a case chooses a value of.
struct Factor {
  std::string name;
  std::vector<int64_t> values;
};
std::vector<int64_t> range(int64_t first, int64_t last);
/// `factors`, of which those named in `others` have their values instead.
std::vector<Factor> with(std::vector<Factor> factors, const std::vector<Factor>& others);
/// Values of a factor that says whether a path serves.
inline constexpr auto kPays = static_cast<int64_t>(Choice::what_pays),
                      kAlways = static_cast<int64_t>(Choice::always),
                      kNever = static_cast<int64_t>(Choice::never);

/// One value of each factor, by name.
class Case {
 public:
  Case(const std::vector<Factor>& factors, std::vector<int64_t> values)
      : factors_(&factors), values_(std::move(values)) {}
  int64_t operator[](const char* name) const;
  std::string str() const;

 private:
  const std::vector<Factor>* factors_;
  std::vector<int64_t> values_;
};

/// All the cases of a comparison: together they have each pair of values of two factors that occurs
/// in anything accepted, and then `triples` sampled triples.
struct Cases {
  Cases(std::vector<Factor> factors, std::function<bool(const Case&)> accepts, int64_t triples,
        uint64_t seed, bool all_pairs = true);
  std::vector<Factor> factors;
  std::vector<std::vector<int64_t>> values;
  int64_t pairs = 0, impossible = 0;  // of values: covered, and in nothing that is accepted
};

// ---- operands

/// Ways for elements to lie in memory; expanded ones repeat along the first axis.
enum Layout : int64_t { plain, reversed, gapped, every_second, swapped, expanded, layouts };

/// An operand and, in row-major order, its elements.
struct Operand {
  Tensor tensor;
  std::vector<double> values;
};
/// What elements are: any in [-1, 1), a few that occur again and again, or also NaN.
enum Kind : int64_t { any_number, ties, some_nan };
/// Random elements times `size`, as a leaf that requires a gradient.
Operand operand(Random& random, const Shape& shape, DType dtype, int64_t layout,
                int64_t kind = any_number, double size = 1);

// ---- the definition

/// A sum in double that keeps what each addition rounds away (Knuth's two-sum): in float64 the
/// definition must be more precise than what is measured by it.
class Sum {
 public:
  Sum& operator+=(double term) {
    const double sum = high_ + term, part = sum - high_;
    low_ += (high_ - (sum - part)) + (term - part);
    high_ = sum;
    return *this;
  }
  /// An infinite or NaN sum has lost nothing.
  operator double() const { return std::isfinite(high_) ? high_ + low_ : high_; }

 private:
  double high_ = 0, low_ = 0;
};

/// A result by its definition, and what its rounding is measured by: the sum of the magnitudes of
/// each element's terms.
struct Expected {
  explicit Expected(const Shape& shape_)
      : shape(shape_),
        sum(static_cast<std::size_t>(count(shape_))),
        scale(static_cast<std::size_t>(count(shape_))) {}
  static int64_t count(const Shape& shape) {
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    return n;
  }
  void add(int64_t i, double term) { add(i, term, std::abs(term)); }
  /// A term whose own rounding counts as one of that magnitude.
  void add(int64_t i, double term, double magnitude) {
    sum.data()[i] += term;
    scale.data()[i] += magnitude;
  }
  int64_t size() const { return static_cast<int64_t>(sum.size()); }
  Shape shape;
  std::vector<Sum> sum;
  std::vector<double> scale;
};

double eps_of(DType dtype);

// ---- what served

/// While it lives, a path serves where it can, or not; then what pays, again.
class Chosen {
 public:
  Chosen(detail::Path path, Choice choice) : state_(detail::path_states[path.index]) {
    state_.choice = choice;
  }
  Chosen(detail::Path path, int64_t choice) : Chosen(path, static_cast<Choice>(choice)) {}
  ~Chosen() { state_.choice = Choice::what_pays; }
  Chosen(const Chosen&) = delete;

 private:
  detail::PathState& state_;
};

/// Compares results with their definition, and counts the comparisons that each path had part in.
class Tally {
 public:
  Tally() { detail::watching_paths = true; }
  ~Tally() { detail::watching_paths = false; }
  Tally(const Tally&) = delete;

  /// The tensor that f makes must be `expected`, element by element.
  void compare(const std::string& what, const Case& c, const std::function<Tensor()>& f,
               const Expected& expected);
  /// Checks each gradient of `y` from the outer gradient `g`, each on a walk of its own.
  struct Gradient {
    const char* name;
    const Tensor& input;
    const Expected& expected;
  };
  void compare_gradients(const std::string& op, const Case& c, const Tensor& y, const Tensor& g,
                         const std::vector<Gradient>& gradients);
  /// f(case) for each of the cases, or for a share of them, by each instruction set in turn.
  /// `impossible`: how many pairs of values nothing has that is accepted.
  void sweep(const char* name, const Cases& cases, int64_t impossible,
             const std::function<void(const Case&)>& f);

  struct Path {
    int64_t comparisons[2] = {}, calls = 0;  // of float32 and of float64
    double worst = 0;                        // in units of its bound's
  };
  const Path& path(const std::string& name) { return paths_[name]; }
  int64_t comparisons = 0, pairs = 0, failures = 0;

 private:
  void report(const std::string& what, const std::string& text);
  std::map<std::string, int> reported_;
  std::map<std::string, Path> paths_;
};
/// How far off a result of this path may be, in eps times the sum of the magnitudes of its terms.
double bound(std::string_view path);

void compare_products(Tally& tally);
void compare_convolutions(Tally& tally);
void compare_pooling(Tally& tally);
void compare_reductions(Tally& tally);
void compare_losses(Tally& tally);

}  // namespace paths
