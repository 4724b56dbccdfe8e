#include "descent/optim/wrappers.hpp"

#include <cmath>

#include "descent/core/ops/ops.hpp"
#include "descent/optim/average.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

Accumulate::Accumulate(OptimizerBase& optimizer, int64_t batches, Step step, At at)
    : optimizer_(optimizer, "Accumulate: its optimizer has gone"),
      batches_(batches),
      step_(std::move(step)) {
  detail::require(batches >= 1, "Accumulate: batches", double(batches), "at least 1", at);
}

/// The open window of `a`, and the gradients of its parameters.
struct Accumulate::Open {
  explicit Open(const Accumulate& a, At at = At::unknown())
      : window(a.window_), parameters(a.optimizer_.get(at).parameters()) {
    for (const auto& [name, p] : parameters) gradients.push_back(p.grad());
  }
  void restore(Accumulate& a) const {
    a.window_ = window;
    for (std::size_t i = 0; i < gradients.size(); ++i)
      if (const Tensor& p = parameters[i].second;
          p.requires_grad() && (!gradients[i].defined() || gradients[i].dtype() == p.dtype()))
        p.set_grad(gradients[i]);
  }
  void visit(StateVisitor& v) {
    v("Accumulate/batches", window.batches), v("Accumulate/first", window.first);
    v("Accumulate/examples", window.examples), v("Accumulate/loss", window.loss);
    for (std::size_t i = 0; i < gradients.size(); ++i)
      v.optional("Accumulate/" + parameters[i].first + "/grad", gradients[i], parameters[i].second);
  }

  Window window;
  NamedTensors parameters;
  std::vector<Tensor> gradients;
};

/// Unless the call succeeds, brings back the window and the gradients that it began with. While it
/// holds these, backward adds to others.
class Accumulate::Undo : Pinned {
 public:
  Undo(Accumulate& a, At at) : a_(a), before_(a, at) {}
  ~Undo() {
    if (!done) before_.restore(a_);
  }
  bool done = false;

 private:
  Accumulate& a_;
  const Open before_;
};

NamedTensors Accumulate::state_dict() const {
  Open now(*this);
  if (pending() == 0) now.gradients.clear();  // the next window forgets them
  return saved_state(now);
}

Commit Accumulate::prepare_load(NamedTensors state, At at) {
  Open loaded = with_state(Open(*this, at), std::move(state), "Accumulate", at);
  const auto& [batches, first, examples, loss] = loaded.window;
  const bool fits =
      first >= 1 && examples >= first + double(batches - 1) && std::isfinite(examples);
  detail::require(batches == 0 || fits, "Accumulate: examples", examples,
                  "one or more in each micro-batch", at);
  for (std::size_t i = 0; i < loaded.gradients.size(); ++i)
    if (const auto& [name, p] = loaded.parameters[i];
        loaded.gradients[i].defined() && !p.requires_grad())
      fail<ValueError>(at, "load_state_dict: {} is frozen here and has a gradient in the state",
                       name);
  return [this, loaded = std::move(loaded)] { loaded.restore(*this); };
}

bool Accumulate::backward(const In& loss, int64_t examples) {
  const auto n = static_cast<double>(examples);
  detail::require(n >= 1, "Accumulate: examples", n, "at least 1", loss.at);
  const double value = loss.item(loss.at);
  Undo undo(*this, loss.at);
  if (window_.batches == 0) {
    optimizer_.get().zero_grad();
    window_ = {.first = n};
  }
  // In units of n_1: of equal ones each weighs 1, and one alone keeps its bits.
  loss.backward(full(loss.shape(), n / window_.first, loss.dtype()), false, loss.at);
  ++window_.batches;
  window_.examples += n;
  window_.loss += n * value;
  const bool stepped = window_.batches >= batches_ && flush(loss.at);
  undo.done = true;
  return stepped;
}

bool Accumulate::flush(At at) {
  if (window_.batches == 0) return false;
  Undo undo(*this, at);
  const Window full = std::exchange(window_, {});
  detail::scale_gradients(optimizer_.get().parameters(), full.first / full.examples);
  const Tensor loss = tensor(full.loss / full.examples, float64);
  if (step_) step_(loss);
  else optimizer_.get(at).step(In(loss, at));
  undo.done = true;
  return true;
}

Lookahead::Lookahead(OptimizerBase& inner, LookaheadOptions o, At at)
    : inner_(inner, "Lookahead: its optimizer has gone"),
      options_(o),
      state_{{"Lookahead/steps", tensor(int64_t{0})}} {
  detail::require(o.k >= 1, "Lookahead: k", double(o.k), "at least 1", at);
  detail::require(o.alpha >= 0 && o.alpha <= 1, "Lookahead: alpha", o.alpha, "[0, 1]", at);
}

/// The state, with parameters as they are where slow weights are missing.
NamedTensors Lookahead::complete() const {
  NamedTensors all = inner_.get().parameters();
  for (std::size_t i = 0; i < all.size(); ++i)
    if (i + 1 < state_.size()) all[i] = state_[i];
    else all[i] = {"Lookahead/" + all[i].first + "/slow", all[i].second.detach().clone()};
  all.push_back(state_.back());
  return all;
}

double Lookahead::around(At at, const std::function<double()>& step) {
  const NamedTensors fast = inner_.get(at).parameters();
  NamedTensors state = complete();
  check_blend("Lookahead", fast, state, at);  // after the step nothing may fail
  const int64_t before = inner_.get().steps();
  const double loss = step();
  if (inner_.get().steps() == before) return loss;  // it skipped one
  state_ = std::move(state);
  const Tensor& steps = state_.back().second += 1;
  if (steps.item<int64_t>() % options_.k != 0) return loss;
  blend("Lookahead", state_, fast, options_.alpha);
  blend("Lookahead", fast, state_, 1);
  return loss;
}

void Lookahead::step(At at) {
  around(at, [&] { return inner_.get().step(at), 0.0; });
}
void Lookahead::step(const In& loss) {
  around(loss.at, [&] { return inner_.get().step(loss), 0.0; });
}
double Lookahead::step(const Closure& closure, At at) {
  return around(at, [&] { return inner_.get().step(closure, at); });
}

NamedTensors Lookahead::state_dict() const {
  NamedTensors all = clone_all(complete());
  for (const auto& entry : inner_.get().state_dict()) all.push_back(entry);
  return all;
}

Commit Lookahead::prepare_load(NamedTensors state, At at) {
  auto [own, inner] = split_by_prefix(std::move(state), "Lookahead/");
  NamedTensors loaded = with_state(complete(), std::move(own), "Lookahead", at);
  const Commit commit = inner_.get(at).prepare_load(std::move(inner), at);
  return [this, loaded, commit]() mutable { commit(), state_ = std::move(loaded); };
}

SAM::SAM(OptimizerBase& base, SAMOptions o, At at)
    : base_(base, "SAM: its optimizer has gone"), options_(o) {
  detail::require(o.rho >= 0 && std::isfinite(o.rho), "SAM: rho", o.rho, "at least 0, finite", at);
}

/// theta += e. Their gradients are not needed any more.
void SAM::climb(const NamedTensors& theta) const {
  NoGradGuard no_grad;
  const auto scaled = [this](const Tensor& p, const Tensor& g) {
    return options_.adaptive ? abs(p) * g : g;
  };
  for (const auto& [name, p] : theta) p.set_grad(scaled(p, p.grad()));
  const double length = clip_grad_norm(theta, INFINITY);
  if (!(length > 0 && std::isfinite(length))) return;
  for (const auto& [name, p] : theta) p += scaled(p, p.grad() / length * options_.rho);
}

double SAM::step(const Closure& closure, At at) {
  const auto loss_of = [&] {
    base_.get(at).zero_grad();
    EnableGradGuard grad;
    return closure();
  };
  const double loss = loss_of().item(at);
  NamedTensors theta = base_.get(at).parameters();
  std::erase_if(theta, [](const auto& named) { return !named.second.grad().defined(); });
  Tensor second;
  {
    const ElementsGuard kept(theta);
    climb(theta);
    second = loss_of();
  }
  base_.get(at).step(In(second, at));
  return loss;
}

}}  // namespace descent::optim
