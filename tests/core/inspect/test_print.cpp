#include <algorithm>
#include <clocale>
#include <cmath>
#include <locale>
#include <sstream>

#include "support.hpp"

using namespace descent;

TEST_CASE("scalars, empty and undefined tensors take one line") {
  CHECK(str(tensor(3.5)) == "3.5  float32 []");
  CHECK(str(tensor(3.)) == "3.  float32 []");
  CHECK(str(tensor(-7)) == "-7  int64 []");
  CHECK(str(tensor(true)) == "true  bool []");
  CHECK(str(tensor(0.1, float64)) == "0.1  float64 []");
  CHECK(str(tensor(2.).requires_grad_()) == "2.  float32 [], requires_grad");
  CHECK(str(tensor(2.).requires_grad_() * 2.0) == "4.  float32 [], requires_grad");
  CHECK(str(empty({0, 3})) == "[]  float32 [0, 3]");
  CHECK(str(Tensor()) == "undefined");
}

TEST_CASE("shapes, strides and dtypes go into a stream as they are shown in messages") {
  std::ostringstream out;
  const Tensor x = zeros({2, 3}, float64);
  out << x.shape() << ' ' << x.strides() << ' ' << Shape{} << ' ' << Dims{0, -1} << ' ' << x.dtype()
      << ' ' << boolean << ' ' << 7;
  CHECK(out.str() == "[2, 3] [3, 1] [] [0, -1] float64 bool 7");
}

TEST_CASE("columns are aligned, and dtype and shape stand on the last line") {
  CHECK(str(tensor({1, 20, -3})) == "[ 1, 20, -3]\nint64 [3]");
  CHECK(str(tensor({{1., 2.5}, {-10., 0.}})) ==
        "[[  1.0,   2.5],\n"
        " [-10.0,   0.0]]\n"
        "float32 [2, 2]");
  CHECK(str(tensor({true, false})) == "[ true, false]\nbool [2]");
  CHECK(str(arange(8).reshape({2, 2, 2})) ==
        "[[[0, 1],\n"
        "  [2, 3]],\n"
        "\n"
        " [[4, 5],\n"
        "  [6, 7]]]\n"
        "int64 [2, 2, 2]");
  CHECK(str(arange(2).reshape({2, 1, 1, 1})) == "[[[[0]]],\n\n\n [[[1]]]]\nint64 [2, 1, 1, 1]");
  CHECK(str(arange(6).reshape({2, 3}).t()) == "[[0, 3],\n [1, 4],\n [2, 5]]\nint64 [3, 2]");
  CHECK(str(tensor({1.}).requires_grad_()) == "[1.]\nfloat32 [1], requires_grad");
}

TEST_CASE("floats have up to 4 decimals, as many as the longest needs") {
  CHECK(str(tensor({1., 2., 300.})) == "[  1.,   2., 300.]\nfloat32 [3]");
  CHECK(str(tensor({0.5, 0.25})) == "[0.50, 0.25]\nfloat32 [2]");
  CHECK(str(tensor({1. / 3, 2.})) == "[0.3333, 2.0000]\nfloat32 [2]");
  CHECK(str(tensor({0.1, 0.001})) == "[0.100, 0.001]\nfloat32 [2]");
  CHECK(str(tensor({0.99999, 2.})) == "[1., 2.]\nfloat32 [2]");
  CHECK(str(tensor({16777216., -0.})) == "[16777216.,       -0.]\nfloat32 [2]");
}

TEST_CASE("an exponent appears where 4 decimals would hide the size") {
  CHECK(str(tensor({1e8, 1.})) == "[1e+08, 1e+00]\nfloat32 [2]");
  CHECK(str(tensor({99999999., 1.}, float64)) == "[99999999.,        1.]\nfloat64 [2]");
  CHECK(str(tensor({0.0005})) == "[5e-04]\nfloat32 [1]");
  CHECK(str(tensor({1., 0.00004})) == "[1e+00, 4e-05]\nfloat32 [2]");
  CHECK(str(tensor({1., 0.00006})) == "[1.0000, 0.0001]\nfloat32 [2]");
  CHECK(str(tensor({1.23456e-7, 0.})) == "[1.2346e-07, 0.0000e+00]\nfloat32 [2]");
  CHECK(str(tensor({1e300, -1e-300}, float64)) == "[ 1e+300, -1e-300]\nfloat64 [2]");
}

TEST_CASE("what is not finite is named and decides nothing") {
  const double nan = std::nan(""), inf = HUGE_VAL;
  CHECK(str(tensor({nan, -nan, inf, -inf, 1.5})) == "[ nan,  nan,  inf, -inf,  1.5]\nfloat32 [5]");
  CHECK(str(tensor({inf})) == "[inf]\nfloat32 [1]");
  CHECK(str(tensor({nan, 1e-9})) == "[  nan, 1e-09]\nfloat32 [2]");
}

TEST_CASE("a large tensor shows 3 at each end of each axis") {
  CHECK(str(arange(1001)) == "[   0,    1,    2, ...,  998,  999, 1000]\nint64 [1001]");
  CHECK(str(arange(2000).reshape({1000, 2})) ==
        "[[   0,    1],\n"
        " [   2,    3],\n"
        " [   4,    5],\n"
        " ...,\n"
        " [1994, 1995],\n"
        " [1996, 1997],\n"
        " [1998, 1999]]\n"
        "int64 [1000, 2]");
  CHECK(str(arange(1400).reshape({2, 7, 100})) ==
        "[[[   0,    1,    2, ...,   97,   98,   99],\n"
        "  [ 100,  101,  102, ...,  197,  198,  199],\n"
        "  [ 200,  201,  202, ...,  297,  298,  299],\n"
        "  ...,\n"
        "  [ 400,  401,  402, ...,  497,  498,  499],\n"
        "  [ 500,  501,  502, ...,  597,  598,  599],\n"
        "  [ 600,  601,  602, ...,  697,  698,  699]],\n"
        "\n"
        " [[ 700,  701,  702, ...,  797,  798,  799],\n"
        "  [ 800,  801,  802, ...,  897,  898,  899],\n"
        "  [ 900,  901,  902, ...,  997,  998,  999],\n"
        "  ...,\n"
        "  [1100, 1101, 1102, ..., 1197, 1198, 1199],\n"
        "  [1200, 1201, 1202, ..., 1297, 1298, 1299],\n"
        "  [1300, 1301, 1302, ..., 1397, 1398, 1399]]]\n"
        "int64 [2, 7, 100]");
  CHECK(str(zeros({1, 2000})).substr(0, 36) == "[[0., 0., 0., ..., 0., 0., 0.]]\nfloa");
}

TEST_CASE("what the middle of a large tensor holds does not matter to how its ends look") {
  Tensor x = ones({3000});
  x.narrow(0, 1000, 1).fill_(1e20);
  CHECK(str(x) == "[1., 1., 1., ..., 1., 1., 1.]\nfloat32 [3000]");
}

TEST_CASE("long rows are broken before column 80") {
  const std::string text = str(arange(1000).reshape({2, 500}));
  std::istringstream lines(text);
  std::string line;
  std::size_t longest = 0, count = 0;
  while (std::getline(lines, line)) {
    longest = std::max(longest, line.size());
    ++count;
  }
  CHECK(longest <= 80);
  CHECK(longest > 70);
  CHECK(count == 2 * 34 + 1);
  CHECK(text.substr(0, 90).find(",\n  ") != std::string::npos);
}

TEST_CASE("the stream gets the same text, and no locale changes it") {
  struct Commas : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  std::ostringstream out;
  out.imbue(std::locale(out.getloc(), new Commas));
  out << tensor({1234.5}) << '|' << tensor(1234567);
  CHECK(out.str() == "[1234.5]\nfloat32 [1]|1234567  int64 []");

  const std::locale before = std::locale::global(std::locale(std::locale(), new Commas));
  const char* german = std::setlocale(LC_ALL, "de_DE.UTF-8");
  CAPTURE((german ? german : "no German locale here"));
  CHECK(str(tensor({1234.5})) == "[1234.5]\nfloat32 [1]");
  std::setlocale(LC_ALL, "C");
  std::locale::global(before);
}
