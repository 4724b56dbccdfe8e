#include "descent/optim/lbfgs.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/core.h>

#include "descent/core/ops/ops.hpp"
#include "descent/core/tensor/state.hpp"
#include "descent/optim/average.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

using enum detail::Range;
static constexpr detail::RuleInfo kInfo{
    .name = "LBFGS",
    .hyper = {"lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size",
              "strong_wolfe", "maximize"},
    .needs_closure = true,
    .ranges = {nonnegative, at_least_one, nonnegative, nonnegative, nonnegative, at_least_one},
    .choices = {0, 0, 0, 0, 0, 0, 2, 2}};
static_assert(sizeof(LBFGSOptions) == kInfo.hyper.count * sizeof(double));

LBFGS::LBFGS(const NamedTensors& parameters, LBFGSOptions options, At at)
    : OptimizerBase(kInfo, &options) {
  add(parameters, at);
  check_all(at);
}

void LBFGS::check_all(At at) const {
  resolve(at);
  if (observer())
    fail<ValueError>(at, "LBFGS: a ledger cannot explain its steps, which are not one formula");
  for (const Slot& slot : slots_)
    if (slot.parameter.dtype() != slots_[0].parameter.dtype())
      fail<DtypeError>(at, "LBFGS: {} is {}, {} is {}: need one dtype", slots_[0].name,
                       slots_[0].parameter.dtype(), slot.name, slot.parameter.dtype());
}

Tensor LBFGS::theta() const { return parameters_to_vector(parameters()); }

/// Computed in float64 if float32 does not have the range.
static double dot(const Tensor& a, const Tensor& b) {
  const double value = matmul(a, b).item();
  return std::isfinite(value) ? value : matmul(a.to(float64), b.to(float64)).item();
}
static double largest(const Tensor& x) { return norm(x, {}, {.p = INFINITY}).item(); }

// ---- a step

LBFGS::Point LBFGS::evaluate(const Closure& closure) {
  double loss = 0;
  {
    EnableGradGuard grad;
    loss = closure().item();
  }
  ++memory_.evaluations;
  NamedTensors gradients = parameters();
  for (auto& [name, g] : gradients) g = g.grad().defined() ? g.grad() : zeros(g.shape(), g.dtype());
  const Tensor g = parameters_to_vector(gradients);
  return {0, options().maximize ? -loss : loss, 0, options().maximize ? -g : g};
}

LBFGS::Point LBFGS::evaluate(const Closure& closure, const Tensor& x, double t) {
  vector_to_parameters(x + t * memory_.d, parameters());
  Point point = evaluate(closure);
  point.t = t;
  point.slope = dot(point.g, memory_.d);
  if (!std::isfinite(point.f) || !std::isfinite(point.slope)) point.f = INFINITY;
  return point;
}

double LBFGS::step(const Closure& closure, At at) {
  check_all(at);
  NoGradGuard no_grad;
  ElementsGuard kept(parameters());  // puts them back unless the step is carried out
  Memory before = memory_;
  try {
    memory_ = copy_memory();
    if (minimize(closure, at)) {
      kept.tensors.clear();
      ++steps_;
      return loss_;
    }
  } catch (...) {
    std::swap(memory_, before);
    throw;
  }
  std::swap(memory_, before);
  ++skipped_;
  return loss_;
}

/// Whether the step can continue from this point.
bool LBFGS::accepts(const Point& now, const char* place, At at) {
  const bool finite = std::isfinite(now.f) && all(isfinite(now.g)).item<bool>();
  if (finite || nonfinite_ == NonFinite::ignore) return true;
  const std::string what =
      fmt::format("the loss, {}, or its gradient is not finite {}", now.f, place);
  if (nonfinite_ == NonFinite::error) fail<NumericError>(at, "LBFGS: {}", what);
  if (first_time("skipped")) report("LBFGS: a step was skipped: " + what);
  return false;
}

bool LBFGS::minimize(const Closure& closure, At at) {
  const auto& o = options();
  const double max_eval = o.max_eval > 0 ? o.max_eval : std::floor(o.max_iter * 5 / 4);
  const double last = static_cast<double>(memory_.evaluations) + max_eval;
  const auto left = [&] { return last - static_cast<double>(memory_.evaluations); };
  Point now = evaluate(closure);
  loss_ = o.maximize ? -now.f : now.f;
  if (!accepts(now, "where the step begins", at)) return false;
  if (largest(now.g) <= o.tolerance_grad) return true;

  for (double k = 1;; ++k) {
    remember(now.g);
    const Tensor x = theta();
    const Point start = now;
    Reason why = walk(closure, x, now, last);
    if (why.worn) memory_.iterations = 0, memory_.gamma = 1, memory_.pairs.clear();
    if (why.worn && left() > 0) {
      remember(start.g);
      why = walk(closure, x, now, last);
    }
    if (why.kind) {
      vector_to_parameters(x, parameters());
      if (k == 1 && !why.text.empty() && first_time(why.kind))
        report("LBFGS: a step made no progress: " + why.text);
      break;
    }
    vector_to_parameters(x + memory_.t * memory_.d, parameters());
    if (k == o.max_iter) break;
    if (!o.strong_wolfe) now = evaluate(closure);
    if (!accepts(now, "behind a step of fixed length: strong_wolfe, or a smaller lr, helps", at))
      return false;
    const bool no_progress = largest(memory_.d) * memory_.t <= o.tolerance_change ||
                             std::abs(now.f - start.f) < o.tolerance_change;
    if (left() <= 0 || largest(now.g) <= o.tolerance_grad || no_progress) break;
  }
  return true;
}

/// Moves `now` from x along the remembered direction. Returns the reason if there is no progress.
LBFGS::Reason LBFGS::walk(const Closure& closure, const Tensor& x, Point& now, double last) {
  const auto& o = options();
  const Point start{0, now.f, dot(now.g, memory_.d), now.g};
  const double lr = o.lr * lr_factor_, left = last - static_cast<double>(memory_.evaluations);
  const double t = memory_.t =
      memory_.iterations == 1 ? std::min(1.0, 1 / norm(now.g, {}, {.p = 1}).item()) * lr : lr;
  const bool blind = !std::isfinite(start.slope), fresh = memory_.pairs.empty();
  if (!blind && (start.slope > -o.tolerance_change || t == 0)) {
    // If the gradient promises much more than this direction, this is no sign of a minimum.
    const double steepest = dot(now.g, now.g);
    return {"tolerance", "",
            o.strong_wolfe && t > 0 && steepest >= o.tolerance_change &&
                -start.slope < 1e-4 * steepest};
  }
  if (!blind && !o.strong_wolfe) return {};
  Trials trials{t};
  now = blind ? start : search(closure, x, start, t, left, trials);
  memory_.t = now.t;
  if (now.t > 0) return {};
  const bool used_up = static_cast<double>(memory_.evaluations) >= last;
  Reason why = standstill(start, trials, used_up);
  why.worn = fresh ? memory_.gamma != 1 : !used_up || !trials.finite;
  if (used_up && !trials.finite && fresh) {  // the next step continues there
    memory_.gamma *= trials.nearest / (8 * lr);
    why.worn = false;
  }
  return why;
}

/// Remembers what the last iteration has shown about the curvature, and sets the next direction.
void LBFGS::remember(const Tensor& g) {
  Memory& m = memory_;
  if (m.iterations++ > 0) {
    const Tensor y = g - m.g, s = m.d * m.t;
    const double ys = dot(y, s), yy = dot(y, y);
    if (ys > 1e-10 && std::isfinite(ys) && std::isfinite(yy)) {
      while (static_cast<double>(m.pairs.size()) >= options().history_size)
        m.pairs.erase(m.pairs.begin());
      m.pairs.push_back({y, s, 1 / ys});
      m.gamma = ys / yy;
    }
    if (m.pairs.empty() && m.t > 0) m.gamma = 1;
  }
  m.d = direction(g);
  m.g = g;
}

/// -H g, computed by the two loops of Algorithm 7.4.
Tensor LBFGS::direction(const Tensor& g) const {
  const std::vector<Pair>& pairs = memory_.pairs;
  std::vector<double> alpha(pairs.size());
  Tensor q = -g;
  for (std::size_t i = pairs.size(); i-- > 0;) {
    alpha[i] = pairs[i].rho * dot(pairs[i].s, q);
    q = q - alpha[i] * pairs[i].y;
  }
  Tensor r = memory_.gamma * q;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const double beta = pairs[i].rho * dot(pairs[i].y, r);
    r = r + (alpha[i] - beta) * pairs[i].s;
  }
  return r;
}

/// How large the rounding error of the loss at a point may be.
static double rounding(const auto& point) {
  return (point.g.dtype() == float32 ? 0x1p-23 : 0x1p-52) * std::abs(point.f);
}

/// The reason why a step ends where it began, at `start`.
LBFGS::Reason LBFGS::standstill(const Point& start, const Trials& trials, bool used_up) const {
  if (!std::isfinite(start.slope))
    return {"slope", fmt::format("the slope along its direction is {}", start.slope)};
  if (!trials.finite)
    return {"not finite", fmt::format("the loss or its slope is not finite along its direction, "
                                      "and the loss no lower at {} times it",
                                      trials.nearest)};
  const double promise = -start.slope * trials.nearest;
  if (memory_.pairs.empty() && memory_.gamma == 1 && promise <= 16 * rounding(start))
    return {"rounding",
            fmt::format("along the gradient the loss, {}, does not fall, until what it promises, "
                        "{:.1e}, is lost in the rounding",
                        start.f, promise)};
  if (used_up)
    return {"evaluations", "max_eval was reached before a lower loss was found: raise it"};
  return {"standstill",
          fmt::format("the loss does not fall along its direction, where its slope is {}: is the "
                      "gradient that of the loss, and the loss the same in each call?",
                      start.slope)};
}

/// The minimum in [low, high] of the cubic through two points with their slopes: equation (3.59).
static double cubic_minimum(const auto& a, const auto& b, double low, double high) {
  const auto &p = a.t <= b.t ? a : b, &q = a.t <= b.t ? b : a;
  const double d1 = p.slope + q.slope - 3 * (p.f - q.f) / (p.t - q.t);
  const double square = d1 * d1 - p.slope * q.slope;
  if (!(square >= 0)) return (low + high) / 2;
  const double d2 = std::sqrt(square);
  const double t = q.t - (q.t - p.t) * ((q.slope + d2 - d1) / (q.slope - p.slope + 2 * d2));
  return std::isfinite(t) ? std::min(std::max(t, low), high) : (low + high) / 2;
}

/// Finds a t at which the loss has fallen enough (c1) and its slope is flat enough (c2). Steps grow
/// until two of them enclose such a t (Algorithm 3.5); then the bracket shrinks around it (3.6). If
/// the loss is not finite at one end of an interval, it cannot be interpolated: a point in between
/// is tried.
LBFGS::Point LBFGS::search(const Closure& closure, const Tensor& x, const Point& start, double t,
                           double max_evaluations, Trials& trials) {
  constexpr double c1 = 1e-4, c2 = 0.9;
  auto at = [&](double t_) {
    const Point point = evaluate(closure, x, t_);
    trials.nearest = std::min(trials.nearest, t_);
    trials.finite &= std::isfinite(point.f);
    return point;
  };
  auto fell = [&](const Point& p) { return p.f <= start.f + c1 * p.t * start.slope; };
  auto flat = [&](const Point& p) { return std::abs(p.slope) <= -c2 * start.slope; };

  Point bracket[2] = {start, at(t)};
  double k = 0;
  for (; k < max_evaluations; ++k) {
    Point &previous = bracket[0], &now = bracket[1];
    // (As in PyTorch, the second point need not be lower than the first.)
    if (!fell(now) || (k > 1 && now.f >= previous.f)) break;
    if (flat(now)) return now;
    if (now.slope >= 0) break;
    const double next =
        cubic_minimum(previous, now, now.t + 0.01 * (now.t - previous.t), 10 * now.t);
    previous = std::exchange(now, at(next));
  }
  if (k == max_evaluations) bracket[0] = start;

  int low = bracket[0].f <= bracket[1].f ? 0 : 1;
  const double d_largest = largest(memory_.d);
  for (bool crept = false; k < max_evaluations; ++k) {
    const bool cut_off = !std::isfinite(bracket[1 - low].f);
    const double left = std::min(bracket[0].t, bracket[1].t);
    const double right = std::max(bracket[0].t, bracket[1].t), margin = 0.1 * (right - left);
    if ((right - left) * d_largest < 1e-9 && !(cut_off && left == 0)) break;
    if (cut_off) {
      t = left == 0 ? right / 8 : right > 4 * left ? std::sqrt(left * right) : (left + right) / 2;
      if (left == 0 && all(x + t * memory_.d == x).item<bool>()) break;
    } else {
      t = cubic_minimum(bracket[0], bracket[1], left, right);
      // Two points in a row near an end, or one on it, are no progress: then go further inside.
      const bool near_end = std::min(right - t, t - left) < margin;
      const bool stuck = near_end && (crept || t >= right || t <= left);
      if (stuck) t = std::abs(t - right) < std::abs(t - left) ? right - margin : left + margin;
      crept = near_end && !stuck;
    }

    const Point now = at(t);
    // If the difference of the losses may be rounding, the slope decides.
    const bool level = cut_off && now.slope < 0 && now.f <= bracket[low].f + rounding(start);
    if (!level && (!fell(now) || now.f >= bracket[low].f)) {
      bracket[1 - low] = now;
      low = bracket[0].f <= bracket[1].f ? 0 : 1;
      continue;
    }
    if (flat(now)) return now;
    if (now.slope * (bracket[1 - low].t - bracket[low].t) >= 0) bracket[1 - low] = bracket[low];
    bracket[low] = now;
  }
  return bracket[low];
}

// ---- saving

static const std::string kMemory = "LBFGS/<memory>/";

/// Names it as it is saved. Each vector is as long as `theta`, which is undefined where there is no
/// direction to go on from.
static void visit(StateVisitor& v, auto& memory, const Tensor& theta) {
  v(kMemory + "iterations", memory.iterations);
  v(kMemory + "evaluations", memory.evaluations);
  if (!theta.defined()) return;
  v(kMemory + "t", memory.t), v(kMemory + "gamma", memory.gamma);
  v(kMemory + "d", memory.d, theta), v(kMemory + "g", memory.g, theta);
  for (std::size_t i = 0; i < memory.pairs.size(); ++i) {
    auto& [y, s, rho] = memory.pairs[i];
    const std::string pair = kMemory + std::to_string(i) + "/";
    v(pair + "y", y, theta), v(pair + "s", s, theta), v(pair + "rho", rho);
  }
}

/// A copy of the memory; an empty one if parameters were added, because it belongs to another
/// space.
LBFGS::Memory LBFGS::copy_memory() const {
  const Tensor& d = memory_.d;
  return d.defined() && d.numel() != theta().numel() ? Memory{} : memory_;
}

NamedTensors LBFGS::state_dict() const {
  Memory m = copy_memory();
  StateVisitor v;
  visit(v, m, m.d.defined() ? theta() : Tensor());
  NamedTensors all = OptimizerBase::state_dict();
  std::ranges::move(v.state_dict(), std::back_inserter(all));
  return all;
}

Commit LBFGS::prepare_load(NamedTensors state, At at) {
  auto [own, rest] = split_by_prefix(std::move(state), kMemory);
  const auto m = std::make_shared<Memory>();
  for (const auto& [name, t] : own)
    if (name.ends_with("/rho")) m->pairs.emplace_back();
  StateVisitor v;
  visit(v, *m, own.size() > 2 ? theta() : Tensor());
  v.prepare(std::move(own), "L-BFGS", at)();
  const Commit commit = OptimizerBase::prepare_load(std::move(rest), at);
  return [this, m, commit] { commit(), memory_ = std::move(*m); };
}

}}  // namespace descent::optim
