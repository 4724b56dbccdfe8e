#pragma once
/// @file
/// Recurrent layers: sequences, read step by step.

#include "descent/nn/module.hpp"

namespace [[gnu::visibility("default")]] descent { namespace nn {

/// What an `RNN` applies to its gate.
enum class RecurrentNonlinearity { tanh, relu };
/// How recurrent layers are made.
struct RecurrentOptions {
  int64_t num_layers = 1;      ///< layers above one another; each reads the output of the one below
  bool bias = true;            ///< whether they have biases
  bool batch_first = false;    ///< whether x is [N, T, in] instead of [T, N, in]
  double dropout = 0;          ///< between the layers, in training mode
  bool bidirectional = false;  ///< whether each layer also reads from the end to the beginning
  RecurrentNonlinearity nonlinearity = RecurrentNonlinearity::tanh;  ///< of an `RNN` only
};
/// What a sequence begins with, and where it ends.
struct RecurrentState {
  Tensor h = {};  ///< [layers, N, hidden], twice as many if bidirectional; zeros if undefined
  Tensor c = {};  ///< the same for the cell of an `LSTM`
  /// int64 [N], the number of steps of each sequence, 1 to T: what is behind them is not read, and
  /// its output is 0, as PyTorch's packed sequences have it. All of them if undefined.
  Tensor lengths = {};
};
/// What recurrent layers return. Observers of calls and `summary` take it for its output.
struct RecurrentResult {
  Tensor output;  ///< [T, N, hidden], or as `batch_first` says; twice as wide if bidirectional
  Tensor h;       ///< the state at the end, as in RecurrentState
  Tensor c;       ///< that of the cell of an `LSTM`, else undefined
  /// The output.
  operator const Tensor&() const { return output; }
};

/// What `RNN`, `LSTM` and `GRU` share. Parameters are PyTorch's: weight_ih_l0 [gates hidden, in],
/// weight_hh_l0 [gates hidden, hidden], bias_ih_l0 and bias_hh_l0 [gates hidden], the same with _l1
/// and so on, and with _reverse behind it; all start uniform in +-1/sqrt(hidden). All steps of one
/// direction of one layer are one operation.
class Recurrent : public ModuleOf<RecurrentResult(const In& x, const RecurrentState& state)> {
 public:
  /// The parameters of one direction of one layer.
  struct Direction {
    /// Of the input and of the state.
    Tensor weight_ih, weight_hh;
    /// Undefined without biases.
    Tensor bias_ih, bias_hh;
  };
  using ModuleOf::operator();
  /// From a state of zeros, all of x.
  RecurrentResult operator()(const In& x) const { return (*this)(x, {}); }
  /// x [T, N, in], or as `batch_first` says, or [T, in]: then the state has no N either. ShapeError
  /// if x or the state do not fit; DtypeError for other dtypes; ValueError for lengths that are not
  /// in 1..T, and for a c that only an LSTM has.
  RecurrentResult forward(const In& x, const RecurrentState& state) const override;
  /// The features of x and of the state.
  const int64_t in, hidden;
  const RecurrentOptions options;  ///< the options that were given

 protected:
  /// The kinds of layers.
  enum class Kind { rnn, lstm, gru };
  /// ValueError unless in, hidden and num_layers are at least 1 and dropout is in [0, 1].
  Recurrent(Kind kind, int64_t in, int64_t hidden, const RecurrentOptions& options, At at);

 private:
  std::vector<Direction> directions();
  const Kind kind_;
  const std::vector<Direction> directions_;
};

/// h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu of it. Elman 1990.
class RNN : public Recurrent {
 public:
  /// From `in` features to `hidden` ones. ValueError as for Recurrent.
  explicit RNN(int64_t in_, int64_t hidden_, const RecurrentOptions& o = {}, At at = At::here())
      : Recurrent(Kind::rnn, in_, hidden_, o, at) {}
};
/// c' = f c + i g and h' = o tanh(c'), where i, f and o are sigmoid, and g is tanh, of the four
/// parts (i f g o, in this order of the rows) of W_ih x + b_ih + W_hh h + b_hh. Hochreiter &
/// Schmidhuber 1997; Gers et al. 2000.
class LSTM : public Recurrent {
 public:
  /// From `in` features to `hidden` ones. ValueError as for Recurrent.
  explicit LSTM(int64_t in_, int64_t hidden_, const RecurrentOptions& o = {}, At at = At::here())
      : Recurrent(Kind::lstm, in_, hidden_, o, at) {}
};
/// h' = (1 - z) n + z h, where r and z are sigmoid of W_ih x + b_ih + W_hh h + b_hh, and n is tanh
/// of W_ih x + b_ih + r (W_hh h + b_hh), in this order of the rows: r z n. Cho et al. 2014
/// (arXiv:1406.1078), with r behind the product, as in PyTorch.
class GRU : public Recurrent {
 public:
  /// From `in` features to `hidden` ones. ValueError as for Recurrent.
  explicit GRU(int64_t in_, int64_t hidden_, const RecurrentOptions& o = {}, At at = At::here())
      : Recurrent(Kind::gru, in_, hidden_, o, at) {}
};

/// What the cells share: the parameters of one step, called as those of a layer, without _l0.
template <class Signature> class RecurrentCell : public ModuleOf<Signature> {
 public:
  const RecurrentOptions options;  ///< of these, `bias` and `nonlinearity` count
  const Tensor weight_ih;          ///< [gates hidden, in]
  const Tensor weight_hh;          ///< [gates hidden, hidden]
  const Tensor bias_ih;            ///< [gates hidden]; undefined without biases
  const Tensor bias_hh;            ///< the same

 protected:
  /// ValueError unless both sizes are at least 1.
  RecurrentCell(const char* name, int64_t gates, int64_t in, int64_t hidden,
                const RecurrentOptions& options, At at);

 private:
  Tensor start(const char* name, const Shape& shape, int64_t hidden);
};
/// One step of an `RNN`: from x [N, in] and h [N, hidden] the next h.
class RNNCell : public RecurrentCell<Tensor(const In& x, const In& h)> {
 public:
  /// ValueError unless both sizes are at least 1.
  RNNCell(int64_t in, int64_t hidden, const RecurrentOptions& o = {}, At at = At::here())
      : RecurrentCell("RNNCell", 1, in, hidden, o, at) {}
  /// ShapeError unless x and h fit.
  Tensor forward(const In& x, const In& h) const override;
};
/// One step of an `LSTM`: from x [N, in], h and c [N, hidden] the next h and c.
class LSTMCell
    : public RecurrentCell<std::pair<Tensor, Tensor>(const In& x, const In& h, const In& c)> {
 public:
  /// ValueError unless both sizes are at least 1.
  LSTMCell(int64_t in, int64_t hidden, const RecurrentOptions& o = {}, At at = At::here())
      : RecurrentCell("LSTMCell", 4, in, hidden, o, at) {}
  /// ShapeError unless x, h and c fit.
  std::pair<Tensor, Tensor> forward(const In& x, const In& h, const In& c) const override;
};
/// One step of a `GRU`: from x [N, in] and h [N, hidden] the next h.
class GRUCell : public RecurrentCell<Tensor(const In& x, const In& h)> {
 public:
  /// ValueError unless both sizes are at least 1.
  GRUCell(int64_t in, int64_t hidden, const RecurrentOptions& o = {}, At at = At::here())
      : RecurrentCell("GRUCell", 3, in, hidden, o, at) {}
  /// ShapeError unless x and h fit.
  Tensor forward(const In& x, const In& h) const override;
};

}}  // namespace descent::nn
