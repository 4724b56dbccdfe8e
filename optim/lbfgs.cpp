#include "descent/optim/lbfgs.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/core.h>

#include "descent/core/ops.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

static constexpr detail::RuleInfo info{
    "LBFGS",
    {"lr", "max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size",
     "strong_wolfe", "maximize"},
    {},
    0,
    {},
    {},
    {},
    false,
    nullptr};

LBFGS::LBFGS(const NamedTensors& parameters, LBFGSOptions options, At at)
    : OptimizerBase(info), options_(options) {
  add(parameters, at);
  check(at);
}

void LBFGS::check(At at) const {
  const std::vector<double> values = hyper(0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double low = i == 1 || i == 5 ? 1 : 0;  // max_iter, history_size
    detail::require(values[i] >= low && std::isfinite(values[i]),
                    fmt::format("LBFGS: {}", info.hyper.at[i]).c_str(), values[i],
                    low == 1 ? "at least 1" : "at least 0", at);
  }
  if (ledger_) fail<ValueError>(at, "LBFGS: a step is no formula that a ledger could explain");
  for (const Slot& slot : slots_)
    if (slot.parameter.dtype() != slots_[0].parameter.dtype())
      fail<DtypeError>(at, "LBFGS: {} is {}, {} is {}: need one dtype", slots_[0].name,
                       slots_[0].parameter.dtype(), slot.name, slot.parameter.dtype());
}

std::vector<double> LBFGS::hyper(std::size_t) const {
  const LBFGSOptions& o = options_;
  return {o.lr,
          static_cast<double>(o.max_iter),
          static_cast<double>(o.max_eval),
          o.tolerance_grad,
          o.tolerance_change,
          static_cast<double>(o.history_size),
          static_cast<double>(o.strong_wolfe),
          static_cast<double>(o.maximize)};
}

void LBFGS::set_hyper(std::size_t, std::span<const double> v) {
  options_ = {v[0],
              static_cast<int64_t>(v[1]),
              static_cast<int64_t>(v[2]),
              v[3],
              v[4],
              static_cast<int64_t>(v[5]),
              v[6] != 0,
              v[7] != 0};
}

void LBFGS::advance(At at) {
  fail<ValueError>(at, "LBFGS: a step needs a closure that computes the loss anew: step(closure)");
}

// ---- the parameters as one vector

Tensor LBFGS::flat_parameters() const {
  std::vector<Tensor> parts;
  for (const Slot& slot : slots_) parts.push_back(slot.parameter.detach().reshape({-1}));
  return cat(parts).clone();
}

Tensor LBFGS::flat_gradient() const {
  std::vector<Tensor> parts;
  for (const Slot& slot : slots_) {
    const Tensor g = slot.parameter.grad(), &p = slot.parameter;
    parts.push_back((g.defined() ? g.detach() : zeros(p.shape(), p.dtype())).reshape({-1}));
  }
  const Tensor g = cat(parts);
  return options_.maximize ? -g : g.clone();
}

void LBFGS::move_to(const Tensor& x) const {
  int64_t begin = 0;
  for (const Slot& slot : slots_) {
    const Tensor& p = slot.parameter;
    p.copy_(x.narrow(0, begin, p.numel()).reshape(p.shape()));
    begin += p.numel();
  }
}

static double dot(const Tensor& a, const Tensor& b) { return matmul(a, b).item(); }
static double largest(const Tensor& x) { return norm(x, {}, {.p = INFINITY}).item(); }

// ---- a step

LBFGS::Point LBFGS::evaluate(const Closure& closure) {
  double loss = 0;
  {
    EnableGradGuard grad;
    loss = closure().item();
  }
  ++memory_.evaluations;
  return {0, options_.maximize ? -loss : loss, 0, flat_gradient()};
}

LBFGS::Point LBFGS::evaluate(const Closure& closure, const Line& line, double t) {
  move_to(line.x + t * line.d);
  Point point = evaluate(closure);
  point.t = t;
  point.slope = dot(point.g, line.d);
  if (!std::isfinite(point.f) || !std::isfinite(point.slope)) point.f = INFINITY;
  return point;
}

double LBFGS::step(const Closure& closure, At at) {
  check(at);
  NoGradGuard no_grad;
  const Memory memory = memory_;
  const Tensor x = flat_parameters();
  auto restore = [&] {
    move_to(x);
    memory_ = memory;
  };
  try {
    if (minimize(closure, at)) ++steps_;
    else restore(), ++skipped_;
  } catch (...) {
    restore();
    throw;
  }
  return loss_;
}

/// Whether to go on from here.
bool LBFGS::accepts(const Point& now, At at) const {
  const bool finite = std::isfinite(now.f) && all(isfinite(now.g)).item<bool>();
  if (!finite && nonfinite_ == NonFinite::error)
    fail<NumericError>(at, "LBFGS: the loss, {}, or its gradient is not finite", now.f);
  return finite || nonfinite_ == NonFinite::ignore;
}

bool LBFGS::minimize(const Closure& closure, At at) {
  const LBFGSOptions& o = options_;
  const int64_t max_eval = o.max_eval > 0 ? o.max_eval : o.max_iter * 5 / 4;
  const int64_t before = memory_.evaluations;
  Point now = evaluate(closure);
  loss_ = o.maximize ? -now.f : now.f;
  if (!accepts(now, at)) return false;
  if (largest(now.g) <= o.tolerance_grad) return true;

  for (int64_t k = 1;; ++k) {
    remember(now.g);
    const Line line{flat_parameters(), memory_.d};
    const double f = now.f, slope = dot(now.g, line.d), lr = o.lr * lr_factor_;
    const double t =
        memory_.iterations == 1 ? std::min(1.0, 1 / norm(now.g, {}, {.p = 1}).item()) * lr : lr;
    memory_.t = t;
    if (slope > -o.tolerance_change) break;
    if (o.strong_wolfe) {
      const int64_t left = max_eval - (memory_.evaluations - before);
      now = search(closure, line, {0, f, slope, now.g}, t, left);
      memory_.t = now.t;
    }
    move_to(line.x + memory_.t * line.d);
    if (k == o.max_iter) break;
    if (!o.strong_wolfe) now = evaluate(closure);
    if (!accepts(now, at)) return false;
    const bool no_progress = largest(line.d) * memory_.t <= o.tolerance_change ||
                             std::abs(now.f - f) < o.tolerance_change;
    if (memory_.evaluations - before >= max_eval || largest(now.g) <= o.tolerance_grad ||
        no_progress)
      break;
  }
  return true;
}

/// Takes note of what the last iteration has shown of the curvature; sets the next direction.
void LBFGS::remember(const Tensor& g) {
  Memory& m = memory_;
  if (m.iterations++ > 0) {
    const Tensor y = g - m.g, s = m.d * m.t;
    if (const double ys = dot(y, s); ys > 1e-10) {
      if (static_cast<int64_t>(m.pairs.size()) >= options_.history_size)
        m.pairs.erase(m.pairs.begin());
      m.pairs.push_back({y, s, 1 / ys});
      m.gamma = ys / dot(y, y);
    }
  }
  m.d = direction(g);
  m.g = g;
}

/// -H g by the two loops of Algorithm 7.4.
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

/// Where the cubic through two points, with their slopes, is least between `low` and `high`:
/// (3.59).
static double cubic_minimum(const auto& a, const auto& b, double low, double high) {
  const auto &p = a.t <= b.t ? a : b, &q = a.t <= b.t ? b : a;
  const double d1 = p.slope + q.slope - 3 * (p.f - q.f) / (p.t - q.t);
  const double square = d1 * d1 - p.slope * q.slope;
  if (!(square >= 0)) return (low + high) / 2;
  const double d2 = std::sqrt(square);
  const double t = q.t - (q.t - p.t) * ((q.slope + d2 - d1) / (q.slope - p.slope + 2 * d2));
  return std::min(std::max(t, low), high);
}

/// A t where the loss has fallen enough (c1) and its slope has flattened enough (c2): steps grow
/// until they enclose one (Algorithm 3.5), then the bracket shrinks around it (3.6).
LBFGS::Point LBFGS::search(const Closure& closure, const Line& line, const Point& start, double t,
                           int64_t max_evaluations) {
  constexpr double c1 = 1e-4, c2 = 0.9;
  auto fell = [&](const Point& p) { return p.f <= start.f + c1 * p.t * start.slope; };
  auto flat = [&](const Point& p) { return std::abs(p.slope) <= -c2 * start.slope; };

  Point bracket[2] = {start, evaluate(closure, line, t)};
  int64_t k = 0;
  for (; k < max_evaluations; ++k) {
    Point &previous = bracket[0], &now = bracket[1];
    // (The second one need not be lower than the first: PyTorch's way.)
    if (!fell(now) || (k > 1 && now.f >= previous.f)) break;
    if (flat(now)) return now;
    if (now.slope >= 0) break;
    const double next =
        cubic_minimum(previous, now, now.t + 0.01 * (now.t - previous.t), 10 * now.t);
    previous = std::exchange(now, evaluate(closure, line, next));
  }
  if (k == max_evaluations) bracket[0] = start;

  int low = bracket[0].f <= bracket[1].f ? 0 : 1;
  const double d_largest = largest(line.d);
  for (bool crept = false; k < max_evaluations; ++k) {
    const double left = std::min(bracket[0].t, bracket[1].t);
    const double right = std::max(bracket[0].t, bracket[1].t), margin = 0.1 * (right - left);
    if ((right - left) * d_largest < options_.tolerance_change) break;
    t = cubic_minimum(bracket[0], bracket[1], left, right);
    // Twice in a row near an end, or on it, is no progress: then well inside.
    const bool near_end = std::min(right - t, t - left) < margin;
    const bool stuck = near_end && (crept || t >= right || t <= left);
    if (stuck) t = std::abs(t - right) < std::abs(t - left) ? right - margin : left + margin;
    crept = near_end && !stuck;

    const Point now = evaluate(closure, line, t);
    if (!fell(now) || now.f >= bracket[low].f) {
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

NamedTensors LBFGS::state_dict() const {
  NamedTensors all = OptimizerBase::state_dict();
  const Memory& m = memory_;
  auto add = [&](const char* key, const Tensor& t) { all.emplace_back(kMemory + key, t); };
  add("counts", tensor({m.iterations, m.evaluations}));
  if (!m.d.defined()) return all;
  std::vector<double> scalars{m.t, m.gamma};
  std::vector<Tensor> vectors{m.d, m.g};
  for (const Pair& pair : m.pairs) {
    scalars.push_back(pair.rho);
    vectors.insert(vectors.end(), {pair.y, pair.s});
  }
  add("scalars", tensor(scalars));    // t, gamma, rho of each pair
  add("vectors", stack(vectors, 0));  // d, g, y and s of each pair
  return all;
}

void LBFGS::load_state_dict(const NamedTensors& state, At at) {
  NamedTensors rest;
  Tensor counts, scalars, vectors;
  for (const auto& [key, t] : state) {
    if (key == kMemory + "counts") counts = t;
    else if (key == kMemory + "scalars") scalars = t;
    else if (key == kMemory + "vectors") vectors = t;
    else rest.emplace_back(key, t);
  }
  auto need = [&](const char* what, const Tensor& t, DType dtype, const Shape& shape) {
    if (!t.defined()) fail<ValueError>(at, "load_state_dict: {}{} is missing", kMemory, what);
    if (t.dtype() != dtype || !(t.shape() == shape))
      fail<ValueError>(at, "load_state_dict: {}{} is {} {}: need {} {}", kMemory, what, t.dtype(),
                       t.shape(), dtype, shape);
  };
  need("counts", counts, int64, {2});
  Memory m;
  m.iterations = counts.select(0, 0).item<int64_t>();
  m.evaluations = counts.select(0, 1).item<int64_t>();
  if (m.iterations > 0) {
    const Tensor like = flat_parameters();
    const int64_t n = scalars.defined() && scalars.numel() > 2 ? scalars.numel() : 2;
    need("scalars", scalars, float64, {n});
    need("vectors", vectors, like.dtype(), {2 * (n - 1), like.numel()});
    auto scalar = [&](int64_t i) { return scalars.select(0, i).item(); };
    auto vector = [&](int64_t i) { return vectors.select(0, i).clone(); };
    m.t = scalar(0), m.gamma = scalar(1), m.d = vector(0), m.g = vector(1);
    for (int64_t i = 2; i < n; ++i)
      m.pairs.push_back({vector(2 * i - 2), vector(2 * i - 1), scalar(i)});
  }
  OptimizerBase::load_state_dict(rest, at);
  memory_ = std::move(m);
}

}}  // namespace descent::optim
