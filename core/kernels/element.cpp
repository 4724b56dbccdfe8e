#include "descent/core/kernels/element.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace [[gnu::visibility("default")]] descent {
namespace {

// Files are read and written on machines that store the lowest byte first. No other was ever tried.
static_assert(std::endian::native == std::endian::little);

/// IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction.
struct Half {
  uint16_t bits;
  explicit operator float() const {
    const uint32_t sign = uint32_t{bits} >> 15 << 31, rest = bits & 0x7fffU;
    if (rest >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    // The exponent's bias is 15 here and 127 there; the product is right for denormal ones too.
    const float magnitude = std::bit_cast<float>(rest << 13) * 0x1p112F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
};
/// The upper half of a float32.
struct Bfloat {
  uint16_t bits;
  explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};
/// A byte that is 0 or 1.
struct Boolean {
  uint8_t bits;
};

/// f(T{}), for the type T of the elements.
template <class F> auto visit_element(Element element, F f) {
  switch (element) {
    case Element::boolean: return f(Boolean{});
    case Element::uint8: return f(uint8_t{});
    case Element::int8: return f(int8_t{});
    case Element::int16: return f(int16_t{});
    case Element::uint16: return f(uint16_t{});
    case Element::int32: return f(int32_t{});
    case Element::uint32: return f(uint32_t{});
    case Element::int64: return f(int64_t{});
    case Element::uint64: return f(uint64_t{});
    case Element::float16: return f(Half{});
    case Element::bfloat16: return f(Bfloat{});
    case Element::float32: return f(float{});
    case Element::float64: break;
  }
  return f(double{});
}

/// The element at these bytes.
template <class From> From load(const char* bytes, std::endian order) {
  std::array<char, sizeof(From)> own;
  if (order == std::endian::little) std::copy_n(bytes, sizeof(From), own.begin());
  else std::reverse_copy(bytes, bytes + sizeof(From), own.begin());
  return std::bit_cast<From>(own);
}

template <class To, class From> To converted(From value) {
  if constexpr (std::is_same_v<From, Boolean>) return static_cast<To>(value.bits);
  else if constexpr (std::is_class_v<From>) return static_cast<To>(static_cast<float>(value));
  else return static_cast<To>(value);
}

template <class To, class From>
int64_t decode_all(const char* bytes, std::endian order, int64_t count, To* out) {
  int64_t refused = -1;
  for (int64_t i = 0; i < count; ++i, bytes += sizeof(From)) {
    const From value = load<From>(bytes, order);
    if constexpr (std::is_same_v<From, Boolean>) {
      if (value.bits > 1 && refused < 0) refused = i;
    } else if constexpr (std::is_same_v<From, uint64_t> && std::is_same_v<To, int64_t>) {
      if (value > INT64_MAX && refused < 0) refused = i;
    }
    out[i] = converted<To>(value);
  }
  return refused;
}

}  // namespace

std::size_t item_size(Element element) {
  return visit_element(element, [](auto zero) { return sizeof zero; });
}

bool is_floating(Element element) {
  return visit_element(element, []<class T>(T) {
    return std::is_floating_point_v<T> || std::is_same_v<T, Half> || std::is_same_v<T, Bfloat>;
  });
}

std::optional<std::size_t> extent_in_bytes(Element element, const Shape& shape, std::size_t most) {
  std::size_t extent = item_size(element);
  bool empty = false;
  for (const int64_t size : shape) {
    if (size == 0) empty = true;
    else if (static_cast<std::size_t>(size) > most / extent) return std::nullopt;
    else extent *= static_cast<std::size_t>(size);
  }
  return empty ? 0 : extent;
}

DType dtype_for(Element element) {
  if (element == Element::boolean) return descent::boolean;
  if (element == Element::float64) return descent::float64;
  return is_floating(element) ? descent::float32 : descent::int64;
}

Element element_of(DType dtype) {
  switch (dtype) {
    case descent::float32: return Element::float32;
    case descent::float64: return Element::float64;
    case descent::int64: return Element::int64;
    case descent::boolean: break;
  }
  return Element::boolean;
}

bool is_native(Element element) { return element_of(dtype_for(element)) == element; }

int64_t decode(Element element, const void* bytes, std::endian order, const Tensor& out) {
  return visit<Kinds::any>("decode", out.dtype(), At::unknown(), [&]<class To>(To) {
    return visit_element(element, [&]<class From>(From) {
      return decode_all<To, From>(static_cast<const char*>(bytes), order, out.numel(),
                                  out.mutable_data<To>());
    });
  });
}

/// Stores values as Ts.
template <class T, class From>
static int64_t encode_all(const From* values, int64_t count, std::endian order, char* out) {
  for (int64_t i = 0; i < count; ++i, out += sizeof(T)) {
    if constexpr (std::is_class_v<T> || (std::is_floating_point_v<From> && std::is_integral_v<T>)) {
      return i;
    } else {
      if constexpr (std::is_same_v<From, int64_t> && std::is_integral_v<T>)
        if (!std::in_range<T>(values[i])) return i;
      auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(static_cast<T>(values[i]));
      if (order == std::endian::big) std::reverse(bytes.begin(), bytes.end());
      std::copy_n(bytes.begin(), sizeof(T), out);
    }
  }
  return -1;
}

int64_t encode(const Tensor& tensor, Element element, std::endian order, void* bytes) {
  return visit<Kinds::any>("encode", tensor.dtype(), At::unknown(), [&]<class From>(From) {
    return visit_element(element, [&]<class T>(T) {
      return encode_all<T>(tensor.data<From>(), tensor.numel(), order, static_cast<char*>(bytes));
    });
  });
}

char* bytes_of(const Tensor& tensor) { return reinterpret_cast<char*>(Peek::header(tensor)->data); }

std::size_t byte_count(const Tensor& tensor) {
  return static_cast<std::size_t>(tensor.numel() * itemsize(tensor.dtype()));
}

}  // namespace descent
