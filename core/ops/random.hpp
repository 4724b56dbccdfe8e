#pragma once
/// @file
/// Random numbers and random tensors: for one seed, they are the same in every run.
///
/// Which number stands where in a tensor follows from the state of the generator and the index
/// alone, never from the threads. Of two tensors that `rand`, `randn`, `bernoulli` or `randint`
/// draws from the same state, the shorter is the beginning of the longer.

#include <array>

#include "descent/core/tensor/state.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A stream of random numbers: a seed and a position in it. Copies continue independently from the
/// same position, with the same numbers.
///
/// The numbers come from Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011). They are made in blocks
/// of 128 bits: block i is a function of the seed and i alone, so that any thread can compute any
/// part of the stream. A draw takes the blocks that it needs and moves the position past them.
/// Several threads may draw from one generator at once and get different numbers. Call `seed`,
/// `set_state` and `load_state_dict` only while no other thread draws.
class Generator : public Loadable<Generator> {
 public:
  /// What a generator remembers.
  struct State {
    uint64_t seed = 0;    ///< which stream
    uint64_t offset = 0;  ///< the position: how many blocks have been used
    bool operator==(const State&) const = default;
    /// Names its parts for `saved_state` and `load_state`.
    template <class V> void visit(V& v) {
      v("Generator/seed", seed), v("Generator/offset", offset);
    }
  };

  /// A generator at the beginning of the stream that belongs to `seed`.
  explicit Generator(uint64_t seed = 0) : state_{seed, 0} {}

  /// Goes to the beginning of the stream that belongs to `seed`.
  void seed(uint64_t seed) { state_ = {seed, 0}; }
  /// The seed and the position.
  State state() const;
  /// Goes to a position that `state` has returned.
  void set_state(State state) { state_ = state; }
  /// The state as tensors "Generator/seed" and "Generator/offset", each with its bits in an int64.
  [[nodiscard]] NamedTensors state_dict() const;
  /// Prepares to go to the saved position. ValueError if `state` does not fit.
  [[nodiscard]] Commit prepare_load(NamedTensors state, At at = At::here());

  /// 64 random bits; uses one block.
  uint64_t next();
  /// Uniform in [0, 1), a multiple of 2^-53; uses one block.
  double uniform();
  /// Uniform among 0, 1, ..., n - 1, without bias. ValueError if n is 0.
  uint64_t bounded(uint64_t n, At at = At::here());

  /// Takes `blocks` blocks out of the stream; returns the position of the first.
  State reserve(uint64_t blocks);

 private:
  State state_;
};

/// The generator that functions use if they are not given one. The whole process has one: several
/// threads that draw from it at once get different numbers, but it is not determined which.
Generator& default_generator();

/// Seeds the default generator: what is drawn next is the same in every run, whatever
/// `num_threads()` is.
void manual_seed(uint64_t seed);

/// Uniform numbers in [0, 1), multiples of 2^-24 (float32) or 2^-53 (float64).
Tensor rand(const Shape& shape, DType dtype = float32, Generator& generator = default_generator(),
            At at = At::here());
/// Normal numbers with mean 0 and variance 1, by Box & Muller's transform (1958). Floating dtypes.
Tensor randn(const Shape& shape, DType dtype = float32, Generator& generator = default_generator(),
             At at = At::here());
template <std::integral... D>
Tensor rand(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: rand({2, 3})")));
template <std::integral... D>
Tensor randn(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: randn({2, 3})")));
/// A bool tensor in which each element is true with probability p, to within 2^-33. ValueError
/// unless 0 <= p <= 1.
Tensor bernoulli(const Shape& shape, double p, Generator& generator = default_generator(),
                 At at = At::here());
/// Uniform int64 numbers in [low, high). ValueError unless low < high.
Tensor randint(int64_t low, int64_t high, const Shape& shape,
               Generator& generator = default_generator(), At at = At::here());
/// The numbers 0, ..., n - 1 in random order, int64 [n]. All orders are equally likely (Fisher &
/// Yates). ValueError if n is negative.
Tensor randperm(int64_t n, Generator& generator = default_generator(), At at = At::here());

/// Numbers as those of `rand` and `randn`, with x's shape and dtype.
Tensor rand_like(const In& x, Generator& generator = default_generator());
Tensor randn_like(const In& x, Generator& generator = default_generator());
/// `count` numbers of classes from each row of weights [N, K] or [K]: int64 [N, count] or [count].
/// A class is drawn as often as its weight is large; without `replacement`, at most once.
/// ValueError if a weight is negative or not finite, if their sum is not finite, or if a row has
/// not enough classes with a weight above 0. Floating dtypes.
Tensor multinomial(const In& weights, int64_t count, bool replacement = false,
                   Generator& generator = default_generator());

namespace detail {

/// Four words of 32 bits: a counter, or the random bits that are computed from it.
using PhiloxBlock = std::array<uint32_t, 4>;

/// Philox4x32-10: ten rounds turn a counter and a key of two words into 128 random bits. Salmon,
/// Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), sections 3 and 4.
[[gnu::always_inline]] inline PhiloxBlock philox(PhiloxBlock x, uint32_t key0, uint32_t key1) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * x[0], p2 = uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<uint32_t>(p2 >> 32) ^ x[1] ^ key0, static_cast<uint32_t>(p2),
         static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ key1, static_cast<uint32_t>(p0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return x;
}

/// Block number `block` of the stream that belongs to `seed`.
[[gnu::always_inline]] inline PhiloxBlock philox(uint64_t seed, uint64_t block) {
  return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0},
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}
}  // namespace descent::detail
