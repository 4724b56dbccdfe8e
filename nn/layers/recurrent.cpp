#include "descent/nn/layers/recurrent.hpp"

#include <algorithm>
#include <array>

#include "descent/core/autograd/backward.hpp"
#include "descent/core/graph/graph.hpp"
#include "descent/core/graph/joint_gradients.hpp"
#include "descent/core/kernels/elementwise.hpp"
#include "descent/core/kernels/vmath.hpp"
#include "descent/core/ops/ops.hpp"
#include "descent/nn/layers/dropout.hpp"
#include "descent/nn/layers/parameter.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {
namespace {

// ---- the formulas of one step

// They are for numbers in the loops below, and for tensors in derivatives that are recorded. x and
// h are the gates of the input and of the state; `own` is the state that the formula reads itself:
// c of an LSTM, else h.

template <class X> [[gnu::always_inline]] inline X squash(const X& v) {
  if constexpr (std::is_same_v<X, Tensor>) return sigmoid(v);
  else return vmath::sigmoid(v);
}
template <class X> [[gnu::always_inline]] inline X bend(const X& v) {
  if constexpr (std::is_same_v<X, Tensor>) return tanh(v);
  else return vmath::tanh(v);
}

/// The gradients of x, of h and of the own state.
template <class X, std::size_t G> struct Slopes {
  std::array<X, G> x, h;
  X own;
};

template <bool rectified> struct PlainCell {
  static constexpr std::size_t gates = 1;
  static constexpr bool has_c = false;
  template <class X>
  [[gnu::always_inline]] static std::array<X, 1> step(const X* x, const X* h, const X&) {
    if constexpr (!rectified) return {bend<X>(x[0] + h[0])};
    else if constexpr (std::is_same_v<X, Tensor>) return {relu(x[0] + h[0])};
    else return {x[0] + h[0] < 0 ? X(0) : x[0] + h[0]};
  }
  template <class T>
  [[gnu::always_inline]] static Slopes<T, 1> slopes(const T* x, const T* h, T, T of_h, T) {
    const T y = rectified ? x[0] + h[0] : bend(x[0] + h[0]);
    const T s = !rectified ? of_h * ((1 - y) * (1 + y)) : y <= 0 ? T(0) : of_h;
    return {{s}, {s}, 0};
  }
};
using TanhCell = PlainCell<false>;
using ReluCell = PlainCell<true>;
struct LstmCell {
  static constexpr std::size_t gates = 4;
  static constexpr bool has_c = true;
  template <class X>
  [[gnu::always_inline]] static std::array<X, 2> step(const X* x, const X* h, const X& c) {
    const X next = squash<X>(x[1] + h[1]) * c + squash<X>(x[0] + h[0]) * bend<X>(x[2] + h[2]);
    return {squash<X>(x[3] + h[3]) * bend<X>(next), next};
  }
  template <class T>
  [[gnu::always_inline]] static Slopes<T, 4> slopes(const T* x, const T* h, T c, T of_h, T of_c) {
    const T i = squash(x[0] + h[0]), f = squash(x[1] + h[1]), g = bend(x[2] + h[2]),
            o = squash(x[3] + h[3]), y = bend(f * c + i * g);
    const T s = of_c + of_h * o * ((1 - y) * (1 + y));
    const std::array<T, 4> all{s * g * i * (1 - i), s * c * f * (1 - f),
                               s * i * ((1 - g) * (1 + g)), of_h * y * o * (1 - o)};
    return {all, all, s * f};
  }
};
struct GruCell {
  static constexpr std::size_t gates = 3;
  static constexpr bool has_c = false;
  template <class X>
  [[gnu::always_inline]] static std::array<X, 1> step(const X* x, const X* h, const X& own) {
    const X z = squash<X>(x[1] + h[1]), n = bend<X>(x[2] + squash<X>(x[0] + h[0]) * h[2]);
    return {(1 - z) * n + z * own};
  }
  template <class T>
  [[gnu::always_inline]] static Slopes<T, 3> slopes(const T* x, const T* h, T own, T of_h, T) {
    const T r = squash(x[0] + h[0]), z = squash(x[1] + h[1]), n = bend(x[2] + r * h[2]);
    const T s = of_h * (1 - z) * ((1 - n) * (1 + n)), of_r = s * h[2] * r * (1 - r);
    const T of_z = of_h * (own - n) * z * (1 - z);
    return {{of_r, of_z, s}, {of_r, of_z, s * r}, of_h * z};
  }
};

// ---- all steps of one direction

/// What the steps read and leave: gates [T, N, G D], states [T + 1, N, D] with the first one in
/// front, in the order of the steps.
struct Steps {
  const struct Formula* formula;
  Tensor x, h;       // gates of the input, in the order of time, and of the state
  Tensor hidden, c;  // states; c is undefined without one
  Tensor weight, bias;
  Tensor lengths;  // undefined: all
  bool reverse;

  int64_t count() const { return x.size(0); }
  int64_t n() const { return x.size(1); }
  int64_t d() const { return hidden.size(2); }
  int64_t time(int64_t step) const { return reverse ? count() - 1 - step : step; }
  const Tensor& own() const { return c.defined() ? c : hidden; }

  /// Calls row(i, active) for the rows of a step, on several threads.
  template <class F> void each_row(int64_t step, F row) const {
    const int64_t most = std::max<int64_t>((1 << 13) / std::max<int64_t>(x.size(2), 1), 1);
    const int64_t* ends = lengths.defined() ? elements_of<int64_t>(lengths) : nullptr;
    parallel_for((n() + most - 1) / most, [&](int64_t tile) {
      for (int64_t i = tile * most; i < std::min(n(), (tile + 1) * most); ++i)
        row(i, !ends || time(step) < ends[i]);
    });
  }
  template <class T> T* row_of(const Tensor& t, int64_t at, int64_t i) const {
    return elements_of<T>(t) + (at * n() + i) * t.size(2);
  }
};

template <class Cell, class T, std::size_t... I>
void forward_rows(const Steps& s, int64_t step, std::index_sequence<I...>) {
  constexpr std::size_t G = Cell::gates;
  const int64_t d_ = s.d();
  s.each_row(step, [&](int64_t i, bool active) {
    T *to = s.row_of<T>(s.hidden, step + 1, i), *to_c = nullptr;
    if constexpr (Cell::has_c) to_c = s.row_of<T>(s.c, step + 1, i);
    if (!active) {
      std::copy_n(s.row_of<T>(s.hidden, step, i), d_, to);
      if (to_c) std::copy_n(s.row_of<T>(s.c, step, i), d_, to_c);
      return;
    }
    const T *gx = s.row_of<T>(s.x, s.time(step), i), *gh = s.row_of<T>(s.h, step, i),
            *from = s.row_of<T>(s.own(), step, i);
    auto one = [](auto&... all) __attribute__((always_inline)) {
      const auto refs = std::tie(all...);
      const T xs[] = {std::get<I>(refs)...}, hs[] = {std::get<G + I>(refs)...};
      const auto result = Cell::step(xs, hs, std::get<2 * G>(refs));
      std::get<2 * G + 1>(refs) = result[0];
      if constexpr (Cell::has_c) std::get<2 * G + 2>(refs) = result[1];
    };
    if constexpr (Cell::has_c)
      simd::for_each_exact(one, d_, gx + int64_t(I) * d_..., gh + int64_t(I) * d_..., from, to,
                           to_c);
    else simd::for_each_exact(one, d_, gx + int64_t(I) * d_..., gh + int64_t(I) * d_..., from, to);
  });
}
/// From dh and dc [N, D], the gradients of this step's states: writes those of its gates, and
/// puts into dc or dh that of the own state before it; dh has nothing else then.
template <class Cell, class T, std::size_t... I>
void backward_rows(const Steps& s, int64_t step, const Tensor& dh, const Tensor& dc,
                   const Tensor& dx, const Tensor& dgates, std::index_sequence<I...>) {
  constexpr std::size_t G = Cell::gates;
  const int64_t d_ = s.d();
  s.each_row(step, [&](int64_t i, bool active) {
    T *of_h = elements_of<T>(dh) + i * d_, *of_c = elements_of<T>(dc) + i * d_,
      *to_x = s.row_of<T>(dx, s.time(step), i), *to_h = s.row_of<T>(dgates, step, i);
    if (!active) {  // the states are those before the step
      std::fill_n(to_x, dx.size(2), T(0));
      std::fill_n(to_h, dx.size(2), T(0));
      return;
    }
    const T *gx = s.row_of<T>(s.x, s.time(step), i), *gh = s.row_of<T>(s.h, step, i),
            *from = s.row_of<T>(s.own(), step, i);
    auto one = [](auto&... all) __attribute__((always_inline)) {
      const auto refs = std::tie(all...);
      const T xs[] = {std::get<I>(refs)...}, hs[] = {std::get<G + I>(refs)...};
      T &before_h = std::get<2 * G + 1>(refs), &before_c = std::get<2 * G + 2>(refs);
      const auto to = Cell::slopes(xs, hs, T(std::get<2 * G>(refs)), T(before_h), T(before_c));
      ((std::get<2 * G + 3 + I>(refs) = to.x[I]), ...);
      ((std::get<3 * G + 3 + I>(refs) = to.h[I]), ...);
      before_h = Cell::has_c ? T(0) : to.own;
      before_c = Cell::has_c ? to.own : T(0);
    };
    simd::for_each_exact(one, d_, gx + int64_t(I) * d_..., gh + int64_t(I) * d_..., from, of_h,
                         of_c, to_x + int64_t(I) * d_..., to_h + int64_t(I) * d_...);
  });
}

/// A formula, as the loops over the steps use it.
struct Formula {
  int64_t gates;
  bool has_c;
  void (*forward)(const Steps& s, int64_t step);
  void (*backward)(const Steps& s, int64_t step, const Tensor& dh, const Tensor& dc,
                   const Tensor& dx, const Tensor& dgates);
  /// The next h, and c, by operations.
  std::pair<Tensor, Tensor> (*step)(const Tensor* x, const Tensor* h, const Tensor& own);
};
template <class Cell>
constexpr Formula formula_of{
    Cell::gates, Cell::has_c,
    [](const Steps& s, int64_t step) {
      visit<Kinds::floating>("recurrent", s.x.dtype(), At::unknown(), [&]<class T>(T) {
        forward_rows<Cell, T>(s, step, std::make_index_sequence<Cell::gates>());
      });
    },
    [](const Steps& s, int64_t step, const Tensor& dh, const Tensor& dc, const Tensor& dx,
       const Tensor& dgates) {
      visit<Kinds::floating>("recurrent", s.x.dtype(), At::unknown(), [&]<class T>(T) {
        backward_rows<Cell, T>(s, step, dh, dc, dx, dgates,
                               std::make_index_sequence<Cell::gates>());
      });
    },
    [](const Tensor* x, const Tensor* h, const Tensor& own) -> std::pair<Tensor, Tensor> {
      const auto next = Cell::template step<Tensor>(x, h, own);
      return {next[0], next[Cell::has_c ? 1 : 0]};
    }};

/// The same by operations: [T + 1 or T + 2, N, D], the outputs in the order of time, and the last
/// h and c.
Tensor step_by_step(const Formula& f, const std::vector<Tensor>& in, const Tensor& lengths,
                    bool reverse) {
  const Tensor &x = in[0], &weight = in[1];
  Tensor h = in[2], c = f.has_c ? in[3] : Tensor();
  const Tensor bias = in.size() > (f.has_c ? 4 : 3) ? in.back() : Tensor();
  std::vector<Tensor> outputs(static_cast<std::size_t>(x.size(0)));
  for (int64_t s = 0; s < x.size(0); ++s) {
    const int64_t t = reverse ? x.size(0) - 1 - s : s;
    const Tensor gates_x = x[t], gates_h = linear(h, weight, bias);
    std::vector<Tensor> xs = chunk(gates_x, f.gates, 1), hs = chunk(gates_h, f.gates, 1);
    const auto next = f.step(xs.data(), hs.data(), f.has_c ? c : h);
    const Tensor on = lengths.defined() ? unsqueeze(lengths > t, 1) : ones({1, 1}, boolean);
    h = where(on, next.first, h);
    if (f.has_c) c = where(on, next.second, c);
    outputs[static_cast<std::size_t>(t)] = where(on, h, 0);
  }
  outputs.push_back(h);
  if (f.has_c) outputs.push_back(c);
  return stack(outputs);
}

/// The gradients of the inputs of `run`, from that of its result.
std::vector<Tensor> gradients(const Steps& s, const Tensor& g) {
  const int64_t count = s.count(), n = s.n(), d = s.d();
  const Tensor dx = empty(s.x.shape(), g.dtype()), dgates = empty(s.x.shape(), g.dtype());
  Tensor dh = g[count].clone(), dc = s.c.defined() ? g[count + 1].clone() : zeros_like(dh);
  for (int64_t step = count - 1; step >= 0; --step) {
    const int64_t t = s.time(step);
    const Tensor on = s.lengths.defined() ? unsqueeze(s.lengths > t, 1) : Tensor();
    dh = dh + (on.defined() ? where(on, g[t], 0) : g[t]);
    s.formula->backward(s, step, dh, dc, dx, dgates);
    dh = dh + matmul(dgates[step], s.weight);
  }
  const Tensor rows = dgates.reshape({count * n, dgates.size(2)});
  const Tensor before = narrow(s.hidden, 0, 0, count).reshape({count * n, d});
  std::vector<Tensor> all{dx, matmul(rows.t(), before), dh};
  if (s.c.defined()) all.push_back(dc);
  if (s.bias.defined()) all.push_back(sum(rows, 0));
  return all;
}

/// All steps as one op: see step_by_step. in: gates_x [T, N, G D], weight [G D, D], h [N, D], c
/// [N, D] if the cell has one, bias [G D] if it is there.
Tensor run(const char* op, const Formula& f, const std::vector<Tensor>& in, const Tensor& lengths,
           bool reverse, At at) {
  const int64_t count = in[0].size(0), n = in[2].size(0), d = in[2].size(1);
  Steps s;
  Tensor result;
  {
    const NoGradGuard no_grad;
    s.formula = &f, s.lengths = lengths, s.reverse = reverse;
    s.x = in[0].detach().contiguous(), s.weight = in[1].detach();
    if (in.size() > (f.has_c ? 4 : 3)) s.bias = in.back().detach();
    s.h = empty(s.x.shape(), s.x.dtype());
    s.hidden = empty({count + 1, n, d}, s.x.dtype());
    s.hidden.select(0, 0).copy_(in[2].detach());
    if (f.has_c) {
      s.c = empty(s.hidden.shape(), s.x.dtype());
      s.c.select(0, 0).copy_(in[3].detach());
    }
    for (int64_t step = 0; step < count; ++step) {
      const Tensor h = s.hidden[step];
      s.h.select(0, step).copy_(linear(h, s.weight, s.bias));
      f.forward(s, step);
    }
    Tensor outputs = narrow(s.hidden, 0, 1, count);
    if (reverse) outputs = flip(outputs, 0);
    if (lengths.defined())
      outputs = where(unsqueeze(unsqueeze(arange(count), 1) < lengths, 2), outputs, 0);
    std::vector<Tensor> parts{outputs, narrow(s.hidden, 0, count, 1)};
    if (f.has_c) parts.push_back(narrow(s.c, 0, count, 1));
    result = cat(parts, 0);
  }
  std::vector<Saved> kept;
  for (const Tensor& x : in) kept.push_back(saved(In(x)));
  return record(
      op, result, in,
      [=, joint = std::make_shared<JointGradients>()](const Tensor& g, std::size_t i) {
        std::vector<Tensor> now;
        for (const Saved& x : kept) now.push_back(*x);
        if (grad_enabled())
          return grad({step_by_step(*s.formula, now, lengths, reverse)}, now,
                      {.create_graph = true, .allow_unused = true}, {g})[i];
        return joint->take(i, g, [&](const Tensor& of) { return gradients(s, of.contiguous()); });
      },
      at);
}

}  // namespace

// ---- the layers

namespace {
int64_t check_sizes(int64_t in, int64_t hidden, const RecurrentOptions& o, At at) {
  if (in < 1 || hidden < 1 || o.num_layers < 1)
    fail<ValueError>(at, "Recurrent: {} inputs, {} hidden and {} layers: need at least one", in,
                     hidden, o.num_layers);
  if (!(o.dropout >= 0 && o.dropout <= 1))
    fail<ValueError>(at, "Recurrent: dropout is {}: need [0, 1]", o.dropout);
  return in;
}
}  // namespace

Recurrent::Recurrent(Kind kind, int64_t in_, int64_t hidden_, const RecurrentOptions& o, At at)
    : in(check_sizes(in_, hidden_, o, at)),
      hidden(hidden_),
      options(o),
      kind_(kind),
      directions_(directions()) {}

std::vector<Recurrent::Direction> Recurrent::directions() {
  const int64_t rows = hidden * (kind_ == Kind::lstm ? 4 : kind_ == Kind::gru ? 3 : 1);
  const int64_t ways = options.bidirectional ? 2 : 1;
  std::vector<Direction> all;
  for (int64_t layer = 0; layer < options.num_layers; ++layer)
    for (int64_t way = 0; way < ways; ++way) {
      const std::string suffix = "_l" + std::to_string(layer) + (way == 1 ? "_reverse" : "");
      auto make = [&](const char* name, const Shape& shape) {
        return register_parameter(name + suffix, initial(shape, At::here(), empty({1, hidden})));
      };
      Direction d;
      d.weight_ih = make("weight_ih", {rows, layer == 0 ? in : ways * hidden});
      d.weight_hh = make("weight_hh", {rows, hidden});
      if (options.bias) d.bias_ih = make("bias_ih", {rows}), d.bias_hh = make("bias_hh", {rows});
      all.push_back(d);
    }
  return all;
}

RecurrentResult Recurrent::forward(const In& x, const RecurrentState& state) const {
  const char* layer = kind_ == Kind::lstm ? "LSTM" : kind_ == Kind::gru ? "GRU" : "RNN";
  check_inputs(layer, x, directions_[0].weight_ih, "x", "the layer");
  const bool batched = x.dim() == 3, turned = batched && options.batch_first;
  if ((x.dim() != 2 && !batched) || x.shape().back() != in || x.shape()[turned ? 1 : 0] == 0)
    fail<ShapeError>(x.at, "{}: x {}: need {} or [T, {}] with at least one step", layer, x.shape(),
                     options.batch_first ? "[N, T, in]" : "[T, N, in]", in);
  Tensor y = !batched ? unsqueeze(x, 1) : turned ? transpose(x, 0, 1) : Tensor(x);
  const int64_t count = y.size(0), n = y.size(1), states = std::ssize(directions_);
  auto start = [&](const char* name, const Tensor& given) {
    const Shape wanted = batched ? Shape{states, n, hidden} : Shape{states, hidden};
    if (!given.defined()) return zeros({states, n, hidden}, x.dtype());
    check_inputs(layer, x, given, "x", name);
    if (!(given.shape() == wanted))
      fail<ShapeError>(x.at, "{}: {} {} for x {}: need {}", layer, name, given.shape(), x.shape(),
                       wanted);
    return given.reshape({states, n, hidden});
  };
  const Tensor h = start("h", state.h), c = start("c", state.c);
  if (state.c.defined() && kind_ != Kind::lstm)
    fail<ValueError>(x.at, "{}: there is no c: only an LSTM has one", layer);
  Tensor ends;
  if (state.lengths.defined()) {
    check_lengths(layer, "lengths", {state.lengths, x.at}, n, 1, count);
    ends = state.lengths.detach().clone();  // backward needs them as they are now
    y = where(unsqueeze(unsqueeze(arange(count), 1) < ends, 2), y, 0);
  }

  const Formula& formula = kind_ == Kind::lstm  ? formula_of<LstmCell>
                           : kind_ == Kind::gru ? formula_of<GruCell>
                           : options.nonlinearity == RecurrentNonlinearity::relu
                               ? formula_of<ReluCell>
                               : formula_of<TanhCell>;
  std::vector<Tensor> last_h, last_c;
  const int64_t ways = options.bidirectional ? 2 : 1;
  for (int64_t k = 0; k < states; k += ways) {
    std::vector<Tensor> outputs;
    if (k > 0) y = dropout(y, options.dropout, training());
    for (int64_t way = 0; way < ways; ++way) {
      const Direction& p = directions_[static_cast<std::size_t>(k + way)];
      std::vector<Tensor> inputs{linear(y, p.weight_ih, p.bias_ih), p.weight_hh, h[k + way]};
      if (kind_ == Kind::lstm) inputs.push_back(c[k + way]);
      if (options.bias) inputs.push_back(p.bias_hh);
      const Tensor all = run(layer, formula, inputs, ends, way == 1, x.at);
      outputs.push_back(narrow(all, 0, 0, count));
      last_h.push_back(all[count]);
      if (kind_ == Kind::lstm) last_c.push_back(all[count + 1]);
    }
    y = ways == 1 ? outputs[0] : cat(outputs, -1);
  }
  auto join = [&](const std::vector<Tensor>& all) {
    return all.empty() ? Tensor() : batched ? stack(all) : squeeze(stack(all), 1);
  };
  const Tensor output = !batched ? squeeze(y, 1) : turned ? transpose(y, 0, 1) : y;
  return {output, join(last_h), join(last_c)};
}

// ---- the cells

namespace {
/// One step as the formula has it, from the parameters of a cell.
template <class Layer>
std::pair<Tensor, Tensor> one_step(const char* name, const Formula& f, const Layer& l, const In& x,
                                   const In& h, const In& own) {
  check_inputs(name, x, l.weight_ih, "x", "the layer");
  check_inputs(name, h, l.weight_hh, "h", "the layer");
  const int64_t hidden = l.weight_hh.size(1), n = x.dim() == 2 ? x.shape()[0] : -1;
  const Shape state{n, hidden};
  if (n < 0 || x.shape()[1] != l.weight_ih.size(1) || !(h.shape() == state) ||
      !(own.shape() == state))
    fail<ShapeError>(x.at, "{}: x {} and state {}: need [N, {}] and [N, {}]", name, x.shape(),
                     h.shape() == state ? own.shape() : h.shape(), l.weight_ih.size(1), hidden);
  auto gates = [&f](const In& of, const Tensor& weight, const Tensor& bias) {
    return chunk(linear(of, weight, bias), f.gates, 1);
  };
  const std::vector<Tensor> xs = gates(x, l.weight_ih, l.bias_ih),
                            hs = gates(h, l.weight_hh, l.bias_hh);
  return f.step(xs.data(), hs.data(), own);
}
}  // namespace

template <class Signature>
RecurrentCell<Signature>::RecurrentCell(const char* name, int64_t gates, int64_t in, int64_t hidden,
                                        const RecurrentOptions& o, At at)
    : options((check_features(name, in, hidden, at), o)),
      weight_ih(start("weight_ih", {gates * hidden, in}, hidden)),
      weight_hh(start("weight_hh", {gates * hidden, hidden}, hidden)),
      bias_ih(o.bias ? start("bias_ih", {gates * hidden}, hidden) : Tensor()),
      bias_hh(o.bias ? start("bias_hh", {gates * hidden}, hidden) : Tensor()) {}
template <class Signature>
Tensor RecurrentCell<Signature>::start(const char* name, const Shape& shape, int64_t hidden) {
  return this->register_parameter(name, initial(shape, At::here(), empty({1, hidden})));
}
template class RecurrentCell<Tensor(const In&, const In&)>;
template class RecurrentCell<std::pair<Tensor, Tensor>(const In&, const In&, const In&)>;

Tensor RNNCell::forward(const In& x, const In& h) const {
  if (options.nonlinearity == RecurrentNonlinearity::relu)
    return one_step("RNNCell", formula_of<ReluCell>, *this, x, h, h).first;
  return one_step("RNNCell", formula_of<TanhCell>, *this, x, h, h).first;
}
std::pair<Tensor, Tensor> LSTMCell::forward(const In& x, const In& h, const In& c) const {
  return one_step("LSTMCell", formula_of<LstmCell>, *this, x, h, c);
}
Tensor GRUCell::forward(const In& x, const In& h) const {
  return one_step("GRUCell", formula_of<GruCell>, *this, x, h, h).first;
}

}}  // namespace descent::nn
