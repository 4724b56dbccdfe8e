#include "descent/optim/insight/ledger.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "descent/core/ops/ops.hpp"
#include "descent/core/runtime/simd.hpp"

namespace [[gnu::visibility("default")]] descent { namespace optim {

namespace {

/// Element i of a contiguous tensor; 0 of an undefined one.
double element(const Tensor& x, int64_t i) {
  if (!x.defined()) return 0;
  return x.dtype() == float32 ? static_cast<double>(x.data<float>()[i]) : x.data<double>()[i];
}

std::vector<double> elements(const std::vector<Tensor>& tensors, int64_t i) {
  std::vector<double> all;
  for (const Tensor& x : tensors) all.push_back(element(x, i));
  return all;
}

/// Measures what a step did to a parameter, from its elements before and after and the gradient.
/// (Without ops, because these allocate.)
template <class F>
void measure(Ledger::Entry& entry, const F* before, const F* after, const F* g, int64_t n) {
  double low = NAN, high = NAN, total = 0, count = 0, decrease = 0;
  long double square = 0;  // has room for the square of any double
  for (int64_t i = 0; i < n; ++i) {
    const double change = after[i] - before[i], slope = g[i];
    square += static_cast<long double>(change) * change;
    decrease -= slope * change;
    if (slope == 0) continue;
    const double rate = -change / slope;
    low = std::fmin(low, rate);
    high = std::fmax(high, rate);
    total += rate;
    ++count;
  }
  entry.update_norm = static_cast<double>(std::sqrt(square));
  entry.relative_update = entry.update_norm / entry.theta_norm;
  entry.rate_min = low;
  entry.rate_mean = total / count;
  entry.rate_max = high;
  entry.predicted_decrease = decrease;
}

/// Makes room for `more`, so that adding them does not fail.
template <class T> void make_room(std::vector<T>& list, std::size_t more) {
  const std::size_t need = list.size() + more;
  if (need > list.capacity()) list.reserve(std::max(need, 2 * list.capacity()));
}

}  // namespace

Ledger::Ledger(LedgerOptions options, At at) : options_(std::move(options)) {
  detail::require(options_.every >= 1, "Ledger: every", static_cast<double>(options_.every),
                  "at least 1", at);
  detail::require(options_.max_bytes >= 0, "Ledger: max_bytes",
                  static_cast<double>(options_.max_bytes), "at least 0", at);
  for (int64_t i : options_.elements)
    detail::require(i >= 0, "Ledger: an element", static_cast<double>(i), "at least 0", at);
}

void Ledger::follow(const OptimizerBase& opt, At at) {
  const auto other = optimizer_.lock();
  if (other && other != opt.life)
    fail<ValueError>(at,
                     "trace: this ledger follows another optimizer, {}: take one for each, or "
                     "trace(nullptr) there",
                     rule_->name);
  if (!entries_.empty() && rule_ != &opt.info())
    fail<ValueError>(at, "trace: this ledger holds steps of {}: take another one for {}",
                     rule_->name, opt.info().name);
  optimizer_ = opt.life;
  rule_ = &opt.info();
  replay_ = opt.replay();
}

// ---- recording

void Ledger::before_clip(const OptimizerBase& opt) {
  if (opt.steps() % options_.every != 0 || is_full(opt)) return;
  std::vector<Raw> raw;
  for (const detail::Slot& slot : opt.slots()) {
    const Tensor g = slot.parameter.grad();
    if (!g.defined() || !matches(options_.parameters, slot.name)) continue;
    const auto age = gradient_age(slot.parameter);
    const Raw* clipped = raw_of(slot.name, age);  // already: g is not the raw one
    raw.push_back(clipped ? *clipped : Raw{slot.name, age, g.clone()});
  }
  raw_ = std::move(raw);
}

/// The gradient of this age before it was clipped; null if it was not clipped.
const Ledger::Raw* Ledger::raw_of(const std::string& name, GradientAge age) const {
  for (const Raw& raw : raw_)
    if (raw.name == name && raw.age == age) return &raw;
  return nullptr;
}

bool Ledger::records(const OptimizerBase& opt, const detail::Slot& slot) const {
  return opt.steps() % options_.every == 0 && slot.grad.defined() &&
         matches(options_.parameters, slot.name);
}

/// About how many bytes an entry with this number of elements takes.
int64_t Ledger::entry_bytes(std::size_t elements) const {
  const std::size_t numbers =
      rule_->hyper.count + rule_->quantities.count + rule_->fields.count + 2 * rule_->state.count;
  const std::size_t each = sizeof(Element) + numbers * sizeof(double);
  return static_cast<int64_t>(sizeof(Entry) + elements * each);
}

/// Whether an earlier step had no room for its entries. After a state was loaded, this step may
/// again be before that one: then the ledger is not full.
bool Ledger::is_full(const OptimizerBase& opt) const {
  return full_at_ > 0 && opt.steps() + 1 >= full_at_;
}

void Ledger::before_step(const OptimizerBase& opt) {
  open_.clear();
  theta_before_.clear();
  gradients_.clear();
  make_room(losses_, 1);
  open_bytes_ = 0;
  for (const detail::Slot& slot : opt.slots())
    if (records(opt, slot))
      open_bytes_ +=
          entry_bytes(options_.elements.empty() ? static_cast<std::size_t>(slot.parameter.numel())
                                                : options_.elements.size());
  if (is_full(opt)) return;
  int64_t bytes = bytes_ + open_bytes_;  // without the entries that this step replaces
  for (auto e = entries_.rbegin(); e != entries_.rend() && e->step > opt.steps(); ++e)
    bytes -= entry_bytes(e->elements.size());
  if (bytes > options_.max_bytes) {
    opt.report(fmt::format(
        "step: the ledger is full: step {} would bring it to {} MB of at most {}, and it "
        "records no more: choose parameters by a pattern, elements, or every n-th step",
        opt.steps() + 1, bytes >> 20, options_.max_bytes >> 20));
    full_at_ = opt.steps() + 1;
    return;
  }
  for (const detail::Slot& slot : opt.slots())
    if (records(opt, slot)) open_entry(opt, slot);
  make_room(entries_, open_.size());
}

void Ledger::open_entry(const OptimizerBase& opt, const detail::Slot& slot) {
  const Tensor theta = slot.parameter.detach().clone(), g = slot.grad;
  Entry& entry = open_.emplace_back();
  entry.step = opt.steps() + 1;
  entry.parameter = slot.name;
  entry.dtype = theta.dtype();
  entry.shape = theta.shape();
  entry.loss = opt.loss();
  for (std::size_t i = 0; i < slot.state.size(); ++i)
    entry.in_use.push_back(slot.state[i].defined() || slot.next_state[i].defined());
  entry.theta_norm = norm(theta).item();
  entry.gradient_norm = norm(g).item();
  theta_before_.push_back(theta);
  gradients_.push_back(g);
  const std::vector<double> hyper = opt.options_of(slot);
  const Raw* raw = raw_of(slot.name, slot.next_seen);
  auto add = [&](int64_t i) {
    Element& e = entry.elements.emplace_back();
    e.index = i;
    e.raw_gradient = element(raw ? raw->gradient : g, i);
    e.before.hyper = hyper;
    e.before.t = static_cast<double>(slot.next_step);
    e.before.theta = element(theta, i);
    e.before.g = element(g, i);
    e.before.state = elements(slot.state, i);
    e.state_after.resize(slot.state.size());
  };
  if (options_.elements.empty()) {
    entry.elements.reserve(static_cast<std::size_t>(theta.numel()));
    for (int64_t i = 0; i < theta.numel(); ++i) add(i);
  }
  for (int64_t i : options_.elements)
    if (i < theta.numel()) add(i);
}

/// Calls f(entry, its slot, its place) for each entry of the running step.
template <class F> void Ledger::for_each_open(const OptimizerBase& opt, F f) {
  std::size_t at = 0;
  for (const detail::Slot& slot : opt.slots())
    if (at < open_.size() && open_[at].parameter == slot.name) {
      f(open_[at], slot, at);
      ++at;
    }
}

void Ledger::after_prepare(const OptimizerBase& opt) {
  for_each_open(opt, [](Entry& entry, const detail::Slot& slot, std::size_t) {
    for (Element& e : entry.elements) {
      e.before.quantities = slot.quantities;
      e.before.fields = elements(slot.fields, e.index);
    }
  });
}

void Ledger::after_step(const OptimizerBase& opt) noexcept {
  for_each_open(opt, [this](Entry& entry, const detail::Slot& slot, std::size_t i) {
    auto measure_as = [&]<class F>(F) {
      measure(entry, theta_before_[i].data<F>(), slot.parameter.data<F>(), gradients_[i].data<F>(),
              slot.parameter.numel());
    };
    if (entry.dtype == float32) measure_as(0.0F);
    else measure_as(0.0);
    for (Element& e : entry.elements) {
      e.theta_after = element(slot.parameter, e.index);
      for (std::size_t k = 0; k < slot.state.size(); ++k)
        e.state_after[k] = element(slot.state[k], e.index);
    }
  });
  const int64_t step = opt.steps();
  while (!losses_.empty() && losses_.back().first >= step) losses_.pop_back();  // done again
  for (; !entries_.empty() && entries_.back().step >= step; entries_.pop_back())
    bytes_ -= entry_bytes(entries_.back().elements.size());
  losses_.emplace_back(step, opt.loss());
  if (step < full_at_) full_at_ = 0;
  for (const Entry& entry : open_) bytes_ += entry_bytes(entry.elements.size());
  std::move(open_.begin(), open_.end(), std::back_inserter(entries_));
  open_.clear();
  theta_before_.clear();
  gradients_.clear();
  raw_.clear();
}

double Ledger::real_decrease(int64_t step) const {
  const auto at = std::lower_bound(losses_.begin(), losses_.end(), std::pair(step, -HUGE_VAL));
  const bool both = losses_.end() - at >= 2 && at->first == step && at[1].first == step + 1;
  return both ? at->second - at[1].second : NAN;
}

// ---- explaining

std::pair<Lines, bool> Ledger::replay(const Entry& entry, const Element& element) const {
  Recording recording;
  detail::Moment moment = element.before;
  {
    // In the step a product with 1 or -1 makes a denormal gradient 0. (volatile: a compiler would
    // leave the product out.)
    const simd::FlushDenormals flush;
    const volatile double sign = 1;
    moment.g *= sign;
    replay_(entry.dtype, moment, recording);
  }
  auto same = [](double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b) || (a != a && b != b);
  };
  bool all = same(moment.theta, element.theta_after);
  for (std::size_t i = 0; i < moment.state.size(); ++i)
    all &= same(moment.state[i], element.state_after[i]);
  return {lines_of(recording), all};
}

namespace {

/// "w[2, 5]" as a name and its indices.
std::pair<std::string, std::vector<int64_t>> parse_element(std::string_view text, At at) {
  const auto bracket = std::min(text.rfind('['), text.size());  // a name may contain one too
  std::vector<int64_t> index;
  const char *p = text.data() + bracket, *end = text.data() + text.size();
  while (p != end && (*p == '[' || *p == ',')) {
    for (++p; p != end && *p == ' ';) ++p;
    p = std::from_chars(p, end, index.emplace_back(-1)).ptr;
  }
  const bool closed = bracket == text.size() || (p + 1 == end && *p == ']');
  if (!closed || std::ranges::count(index, -1) > 0)
    fail<ValueError>(at, "explain: cannot read \"{}\": write a parameter and an element, w[2, 5]",
                     text);
  return {std::string(text.substr(0, bracket)), index};
}

/// The position of an element in row-major order. `index` has a number for each axis, or only that
/// position, or nothing if there is only one element.
int64_t flat_index(const Ledger::Entry& entry, const std::vector<int64_t>& index, At at) {
  const auto rank = static_cast<std::size_t>(entry.shape.rank());
  const bool each_axis = index.size() == rank;
  int64_t flat = 0, count = 1;
  bool inside = each_axis || index.size() <= 1;
  for (std::size_t d = 0; d < rank; ++d) {
    const int64_t size = entry.shape[static_cast<int>(d)], i = each_axis ? index[d] : 0;
    inside &= i >= 0 && i < size;
    flat = flat * size + i;
    count *= size;
  }
  if (!each_axis) flat = index.empty() ? count - 1 : index[0];  // without one: the only element
  if (!inside || flat < 0 || flat >= count || (index.empty() && count != 1))
    fail<IndexError>(at, "explain: {} {} has no element {}", entry.parameter, entry.shape, index);
  return flat;
}

/// "m = 0.5, v = 0.25": the numbers that are in use, or all of them.
std::string list_numbers(const Names& names, const std::vector<double>& values, bool single,
                         const std::vector<char>* in_use = nullptr) {
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!in_use || (*in_use)[i])
      text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", names.at[i],
                          shortest(values[i], single));
  return text;
}

std::string as_text(const Line& line) {
  std::string text = fmt::format("{} = {}\n{:{}} = {}", line.name, line.formula, "",
                                 line.name.size(), line.numbers);
  if (line.numbers != line.value) text += " = " + line.value;
  return text + "\n";
}

}  // namespace

std::string Ledger::explain(std::string_view what, int64_t step, At at) const {
  const auto [name, index] = parse_element(what, at);
  const auto entry = std::find_if(
      entries_.begin(), entries_.end(),
      [step, &name = name](const Entry& e) { return e.step == step && e.parameter == name; });
  if (entry == entries_.end())
    fail<ValueError>(at, "explain: nothing was recorded of {} in step {}{}", name, step,
                     full_at_ > 0 && step >= full_at_ ? ": the ledger was full" : "");
  const int64_t flat = flat_index(*entry, index, at);
  const auto found = std::find_if(entry->elements.begin(), entry->elements.end(),
                                  [&](const Element& e) { return e.index == flat; });
  if (found == entry->elements.end())
    fail<ValueError>(at, "explain: element {} of {} was not recorded", flat, name);

  const bool single = entry->dtype == float32;
  const detail::Moment& before = found->before;
  const auto [lines, same] = replay(*entry, *found);
  std::string text =
      fmt::format("{}, step {} of {} ({})\n", rule_->name, step, what, str(entry->dtype));
  text += "  " + list_numbers(rule_->hyper, before.hyper, false) + "\n";
  text += fmt::format("  t = {}, theta = {}, g = {}", shortest(before.t, false),
                      shortest(before.theta, single), shortest(before.g, single));
  if (found->raw_gradient != before.g)
    text += fmt::format(" (clipped from {})", shortest(found->raw_gradient, single));
  if (const std::string state = list_numbers(rule_->state, before.state, single, &entry->in_use);
      !state.empty())
    text += ", " + state;
  text += "\n";
  if (!before.fields.empty())
    text += "  from whole tensors: " + list_numbers(rule_->fields, before.fields, single) + "\n";
  if (!before.quantities.empty())
    text += "  of the whole: " + list_numbers(rule_->quantities, before.quantities, false) + "\n";
  for (const Line& line : lines) text += as_text(line);
  text += same ? "These are the stored bits.\n"
               : fmt::format(
                     "The step stored theta = {}: this program was built to compute it "
                     "differently, with fused multiply-adds for instance.\n",
                     shortest(found->theta_after, single));
  return text;
}

// ---- tables

std::string Ledger::text() const {
  std::string all =
      fmt::format("{:>6} {:24} {:>10} {:>10} {:>10} {:>9} {:>10} {:>10} {:>10}\n", "step",
                  "parameter", "loss", "|g|", "|change|", "/|theta|", "rate", "predicted", "real");
  for (const Entry& e : entries_)
    all += fmt::format("{:6} {:24} {:10.4g} {:10.4g} {:10.4g} {:9.2e} {:10.4g} {:10.3e} {:10.3e}\n",
                       e.step, e.parameter, e.loss, e.gradient_norm, e.update_norm,
                       e.relative_update, e.rate_mean, e.predicted_decrease, real_decrease(e.step));
  return all;
}

namespace {
/// What a table says about an element.
std::vector<std::pair<std::string, double>> row(const Ledger& ledger, const Names& state,
                                                const Ledger::Entry& entry,
                                                const Ledger::Element& e) {
  double decayed = e.before.g;  // g as the formula used it: clipped, negated and decayed
  for (const Line& line : ledger.replay(entry, e).first)
    if (line.name == "g") decayed = line.number;
  std::vector<std::pair<std::string, double>> all{
      {"theta", e.before.theta},
      {"raw_gradient", e.raw_gradient},
      {"gradient", e.before.g},
      {"decayed_gradient", decayed},
      {"change", e.theta_after - e.before.theta},
      {"theta_after", e.theta_after},
      {"rate_min", entry.rate_min},
      {"rate_mean", entry.rate_mean},
      {"rate_max", entry.rate_max},
      {"theta_norm", entry.theta_norm},
      {"gradient_norm", entry.gradient_norm},
      {"update_norm", entry.update_norm},
      {"relative_update", entry.relative_update},
      {"loss", entry.loss},
      {"predicted_decrease", entry.predicted_decrease},
      {"real_decrease", ledger.real_decrease(entry.step)}};
  for (std::size_t i = 0; i < entry.in_use.size(); ++i) {
    const std::string name = state.at[i];
    all.emplace_back(name, entry.in_use[i] ? e.before.state[i] : NAN);
    all.emplace_back(name + "_after", entry.in_use[i] ? e.state_after[i] : NAN);
  }
  return all;
}

/// A field of a CSV table, in quotes if it has characters that need them: RFC 4180.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + '"';
}
}  // namespace

std::string Ledger::csv() const {
  std::string all = "step,parameter,element";
  bool header = true;
  for (const Entry& entry : entries_)
    for (const Element& e : entry.elements) {
      const auto numbers = row(*this, rule_->state, entry, e);
      if (std::exchange(header, false))
        for (const auto& [name, number] : numbers) all += "," + csv_field(name);
      all += fmt::format("\n{},{},{}", entry.step, csv_field(entry.parameter), e.index);
      for (const auto& [name, number] : numbers) all += "," + shortest(number, false);
    }
  return all + "\n";
}

std::string Ledger::json_lines() const {
  std::string all;
  for (const Entry& entry : entries_)
    for (const Element& e : entry.elements) {
      nlohmann::ordered_json line{{"step", entry.step},
                                  {"parameter", entry.parameter},
                                  {"element", e.index},
                                  {"rule", rule_->name},
                                  {"dtype", str(entry.dtype)}};
      for (const auto& [name, number] : row(*this, rule_->state, entry, e)) line[name] = number;
      // A name may be any bytes, but JSON is UTF-8.
      all += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    }
  return all;
}

}}  // namespace descent::optim
