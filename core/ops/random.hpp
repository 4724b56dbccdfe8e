#pragma once
/// @file
/// Random numbers and tensors of them, the same in every run for one seed.

#include <array>

#include "descent/core/tensor/named.hpp"

namespace [[gnu::visibility("default")]] descent {

/// A stream of random numbers: a seed and a position in it. Copies continue independently from the
/// same position, with the same numbers.
///
/// The numbers are those of Philox4x32-10 (below): the block at position i is a function
/// of seed and i alone, so any part of the stream can be computed anywhere. A draw takes the blocks
/// it needs and moves the position past them. Several threads may draw from one generator at once
/// and get different numbers; seeding and set_state are for moments when nobody draws.
class Generator {
 public:
  /// Everything there is to save: `offset` counts the blocks of 128 bits already used.
  struct State {
    uint64_t seed = 0;    ///< which stream
    uint64_t offset = 0;  ///< where it goes on
    bool operator==(const State&) const = default;
    /// Names its parts for whoever saves it.
    template <class V> void visit(V& v) {
      v("Generator/seed", seed), v("Generator/offset", offset);
    }
  };

  /// At the beginning of the stream of `seed`.
  explicit Generator(uint64_t seed = 0) : state_{seed, 0} {}

  /// Starts the stream of `seed` from its beginning.
  void seed(uint64_t seed) { state_ = {seed, 0}; }
  /// Where the stream stands, and going there.
  State state() const;
  void set_state(State state) { state_ = state; }
  /// "Generator/seed" and "Generator/offset", their bits as int64.
  [[nodiscard]] NamedTensors state_dict() const;
  /// ValueError, and nothing changed, if it does not fit.
  void load_state_dict(const NamedTensors& state, At at = At::here());

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

/// The generator behind every function that is not given one. There is one for the whole process:
/// draws from several threads never overlap, but which thread gets which numbers is then open.
Generator& default_generator();

/// Seeds the default generator: what follows is the same in every run, for any number of threads.
void manual_seed(uint64_t seed);

// Random tensors. Which number lands where follows from the generator's state and the index alone,
// not from the threads; a shorter tensor is the beginning of a longer one.

/// Uniform in [0, 1), multiples of 2^-24 (float32) or 2^-53 (float64).
Tensor rand(const Shape& shape, DType dtype = float32, Generator& generator = default_generator(),
            At at = At::here());
/// Normal with mean 0 and variance 1; floating. Box & Muller's transform (1958).
Tensor randn(const Shape& shape, DType dtype = float32, Generator& generator = default_generator(),
             At at = At::here());
template <std::integral... D>
Tensor rand(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: rand({2, 3})")));
template <std::integral... D>
Tensor randn(int64_t size0, int64_t size1, D... more)
    __attribute__((unavailable("write the sizes as one list: randn({2, 3})")));
/// bool: true with probability p, to within 2^-33. ValueError unless 0 <= p <= 1.
Tensor bernoulli(const Shape& shape, double p, Generator& generator = default_generator(),
                 At at = At::here());
/// int64: uniform in [low, high), which must not be empty (ValueError).
Tensor randint(int64_t low, int64_t high, const Shape& shape,
               Generator& generator = default_generator(), At at = At::here());
/// int64 [n]: 0, ..., n - 1 in random order, every order equally likely (Fisher & Yates).
/// ValueError if n is negative.
Tensor randperm(int64_t n, Generator& generator = default_generator(), At at = At::here());

namespace detail {

/// Four words of 32 bits: a counter, or the random bits made of it.
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

/// PhiloxBlock number `block` of the stream that `seed` names.
[[gnu::always_inline]] inline PhiloxBlock philox(uint64_t seed, uint64_t block) {
  return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0},
                static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}
}  // namespace descent::detail
