#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include "optim.hpp"

// Every class that remembers something saves it in one way: what follows a load has the same bits,
// and a state that does not fit is refused and changes nothing.

using namespace descent;

namespace {

/// Two parameters and what trains them.
struct Training {
  Tensor p = matrix(3, 4, -0.5), q = matrix(4, 2, 0.25);
  NamedTensors parameters{{"p", p}, {"q", q}};
  optim::Adam opt{parameters, {.lr = 0.01}};
  int t = 0;
  void step() {
    set_gradients(parameters, ++t);
    opt.step();
  }
  Values elements() const {
    Values all = values(p);
    for (double x : values(q)) all.push_back(x);
    return all;
  }
  /// What another one has come to, but for the object in question.
  void follow(const Training& other) {
    const NoGradGuard no_grad;
    p.copy_(other.p), q.copy_(other.q);
    opt.load_state_dict(other.opt.state_dict());
    t = other.t;
  }
};

/// A state that lacks the first entry, has another one, and has the last in another dtype.
NamedTensors spoiled(NamedTensors state) {
  state.back().second = state.back().second.to(float32).clone();
  state[0].first = "strange";
  return state;
}

/// `object` refuses its state spoiled, says all that is wrong, and is as it was.
template <class T> void check_refusal(T& object, const std::string& who) {
  CAPTURE(who);
  const NamedTensors before = object.state_dict();
  std::string text;
  try {
    object.load_state_dict(spoiled(before));
  } catch (const ValueError& e) { text = e.what(); }
  CAPTURE(text);
  CHECK(text.starts_with("load_state_dict: the state does not fit " + who + ":"));
  CHECK(text.find(before.front().first + " is missing") != std::string::npos);
  CHECK(text.find("strange is unexpected") != std::string::npos);
  if (before.size() > 1)
    CHECK(text.find(before.back().first + " is " + str(before.back().second.dtype())) !=
          std::string::npos);
  CHECK(same_bits(object.state_dict(), before));
}

/// What a class may remember, of every kind.
struct Thing {
  int64_t count = 3;
  double number = 0.1;
  bool flag = true;
  Tensor x = tensor({1.0, 2.0}, float64), late;
  template <class V> void visit(V& v) {
    v("count", count), v("number", number), v("flag", flag), v("x", x);
    v.optional("late", late, Tensor());
    v.same("sizes", {2}, "thing");
  }
};

}  // namespace

TEST_CASE("a scheduler goes on from its state") {
  Training first, second;
  const auto curve = optim::schedule::warmup(3) * optim::schedule::exponential(0.9);
  optim::Scheduler a(first.opt, curve), b(second.opt, curve);
  for (int i = 0; i < 5; ++i) a.step();
  b.load_state_dict(a.state_dict());
  CHECK(second.opt.lr_factor() == first.opt.lr_factor());
  a.step(), b.step();
  CHECK(second.opt.lr_factor() == first.opt.lr_factor());
  CHECK(same_bits(a.state_dict(), b.state_dict()));
  check_refusal(a, "Scheduler");
  CHECK(refusal<ValueError>([&] {
          b.load_state_dict({{"Scheduler/step", tensor(int64_t{-1})}});
        }) == "load_state_dict: Scheduler/step is -1: need a count up to 2^53");
  CHECK(b.current_step() == 6);
}

TEST_CASE("a plateau goes on from its state") {
  Training first, second;
  const optim::PlateauOptions o{.factor = 0.5, .patience = 1, .cooldown = 1};
  optim::Plateau a(first.opt, o), b(second.opt, o);
  for (double metric : {3.0, 2.0, 2.5, 2.5, 2.5}) a.step(metric);
  b.load_state_dict(a.state_dict());
  for (double metric : {2.5, 2.5, 1.0, 2.5, 2.5, 2.5}) {
    CHECK(second.opt.lr_factor() == first.opt.lr_factor());
    a.step(metric), b.step(metric);
  }
  CHECK(same_bits(a.state_dict(), b.state_dict()));
  check_refusal(a, "Plateau");
}

TEST_CASE("an average goes on from its state") {
  Training first, second;
  optim::WeightAverage a(first.parameters, {.decay = 0.75}), b(second.parameters, {.decay = 0.75});
  for (int i = 0; i < 3; ++i) first.step(), a.update();
  second.follow(first);
  b.load_state_dict(a.state_dict());
  first.step(), a.update(), second.step(), b.update();
  CHECK(same_bits(a.state_dict(), b.state_dict()));
  CHECK(b.updates() == 4);
  check_refusal(a, "this average");
}

TEST_CASE("what is around an optimizer goes on from its state") {
  Training first, second;
  optim::Lookahead a(first.opt, {.k = 2}), b(second.opt, {.k = 2});
  const auto step = [](Training& x, optim::Lookahead& look) {
    set_gradients(x.parameters, ++x.t);
    look.step();
  };
  for (int i = 0; i < 3; ++i) step(first, a);
  second.follow(first);
  b.load_state_dict(a.state_dict());
  step(first, a), step(second, b);  // the fourth, which moves the slow weights
  CHECK(second.elements() == first.elements());
  CHECK(same_bits(a.state_dict(), b.state_dict()));
  NamedTensors wrong = a.state_dict();
  wrong[0].first = "Lookahead/strange";
  CHECK(refusal<ValueError>([&] { a.load_state_dict(wrong); }) ==
        "load_state_dict: the state does not fit Lookahead:\n"
        "  Lookahead/p/slow is missing\n"
        "  Lookahead/strange is unexpected\n");
  CHECK(same_bits(a.state_dict(), b.state_dict()));

  optim::SAM sharp(first.opt), other(second.opt);
  other.load_state_dict(sharp.state_dict());
  CHECK(same_bits(sharp.state_dict(), other.state_dict()));
  check_refusal(sharp, "Adam");
}

TEST_CASE("an accumulator goes on from its state, in the middle of a window") {
  Training first, second;
  optim::Accumulate a(first.opt, 3), b(second.opt, 3);
  const auto add = [](Training& x, optim::Accumulate& to, double scale, int64_t examples) {
    return to.backward(((x.p * scale).sum() + (x.q * x.q).sum()) / 7, examples);
  };
  const auto size_of_state = [&] { return a.state_dict().size(); };
  CHECK(size_of_state() == 4);  // no gradients while no window is open
  add(first, a, 0.5, 3), add(first, a, -2, 5);
  CHECK(size_of_state() == 6);
  second.follow(first);
  b.load_state_dict(a.state_dict());
  CHECK(b.pending() == 2);
  CHECK(add(first, a, 1, 2));
  CHECK(add(second, b, 1, 2));
  CHECK(second.elements() == first.elements());
  CHECK(same_bits(a.state_dict(), b.state_dict()));

  add(first, a, 1, 2);
  check_refusal(a, "Accumulate");
  CHECK_THROWS_WITH_AS(
      a.load_state_dict(with(a.state_dict(), "Accumulate/first", tensor(0.0, float64))),
      doctest::Contains("Accumulate: examples is 2: need one or more in each micro-batch"),
      ValueError);
  NamedTensors second_empty = with(a.state_dict(), "Accumulate/batches", tensor(int64_t{2}));
  CHECK(refusal<ValueError>([&] {
          a.load_state_dict(second_empty);
        }).starts_with("Accumulate: examples is 2: need one or more in each micro-batch"));
  const NamedTensors open = a.state_dict();
  first.q.requires_grad_(false);
  CHECK(refusal<ValueError>([&] { a.load_state_dict(open); }) ==
        "load_state_dict: q is frozen here and has a gradient in the state");
  first.q.requires_grad_(true);
  for (double bad : {INFINITY, NAN})
    CHECK_THROWS_AS(
        a.load_state_dict(with(a.state_dict(), "Accumulate/examples", tensor(bad, float64))),
        ValueError);
  CHECK(a.pending() == 1);
}

TEST_CASE("a loader goes on from its state") {
  const data::TensorDataset dataset(arange(10).to(float64).reshape({10, 1}), arange(10));
  const data::LoaderOptions o{.batch_size = 3, .shuffle = true, .seed = 5};
  data::DataLoader a(dataset, o), b(dataset, o);
  const auto rest = [](data::DataLoader& loader) {
    Values all;
    for (auto [x, y] : loader)
      for (double v : values(x)) all.push_back(v);
    return all;
  };
  rest(a);
  Values left;
  bool saved = false;
  for (auto [x, y] : a)
    if (std::exchange(saved, true))
      for (double v : values(x)) left.push_back(v);
    else b.load_state_dict(a.state_dict());
  CHECK(rest(b) == left);
  CHECK(rest(b) == rest(a));
  check_refusal(a, "DataLoader");
  data::DataLoader other(dataset, {.batch_size = 3, .shuffle = true, .seed = 6});
  CHECK(refusal<ValueError>([&] { other.load_state_dict(a.state_dict()); }) ==
        "load_state_dict: what a DataLoader's order depends on (examples, batch_size, shuffle, "
        "drop_last, seed) is [10, 3, 1, 0, 6] here and [10, 3, 1, 0, 5] in the state");
}

TEST_CASE("a generator goes on from its state, whatever its seed is") {
  Generator a(std::numeric_limits<uint64_t>::max()), b;
  randn({7}, float64, a);
  b.load_state_dict(a.state_dict());
  CHECK(b.state() == a.state());
  CHECK(randn({5}, float64, a).to_vector<double>() == randn({5}, float64, b).to_vector<double>());
  check_refusal(a, "Generator");
}

TEST_CASE("a visitor names all that a class may remember") {
  Thing a, b{.count = 0, .number = 0, .flag = false, .x = tensor({0.0, 0.0}, float64), .late = {}};
  const NamedTensors early = saved_state(a);
  CHECK(early.size() == 5);  // without `late`
  a.late = tensor({5.0});
  prepare_state(b, saved_state(a), "Thing", At::unknown())();
  CHECK(same_bits(saved_state(a), saved_state(b)));
  CHECK(b.flag);
  a.x.fill_(9);  // b has copies
  CHECK(b.x.to_vector<double>() == Values{1, 2});
  prepare_state(b, early, "Thing", At::unknown())();
  CHECK_FALSE(b.late.defined());

  NamedTensors other = early;
  other.back().second = tensor(Ints{3});
  b.count = 8;
  CHECK(full_refusal<ValueError>([&] { (void)prepare_state(b, other, "Thing", At::unknown()); }) ==
        "load_state_dict: thing is [2] here and [3] in the state");
  CHECK(b.count == 8);
}

TEST_CASE("a load that is prepared changes nothing until it is carried out") {
  Training first, second;
  optim::Scheduler schedule(first.opt, optim::schedule::exponential(0.5)),
      other(second.opt, optim::schedule::exponential(0.5));
  optim::WeightAverage average(first.parameters), its(second.parameters);
  for (int i = 0; i < 3; ++i) first.step(), schedule.step(), average.update();
  const auto state = [&] {
    return join({second.opt.state_dict(), other.state_dict(), its.state_dict()});
  };
  const NamedTensors before = state();
  NamedTensors saved = average.state_dict();
  const void* elements = Peek::header(saved[0].second)->data;
  const Commit commits[] = {other.prepare_load(schedule.state_dict()),
                            second.opt.prepare_load(first.opt.state_dict()),
                            its.prepare_load(std::move(saved))};
  CHECK(same_bits(state(), before));
  for (const Commit& commit : commits) commit();
  CHECK(same_bits(state(),
                  join({first.opt.state_dict(), schedule.state_dict(), average.state_dict()})));
  // Tensors that nobody else has are not copied.
  CHECK(Peek::header(its.averages()[0].second)->data == elements);
}

TEST_CASE("a parameter that is loaded is still the one that an optimizer trains") {
  struct Line {
    Tensor w = leaf({1}), b = leaf({2});
    void visit(StateVisitor& v) { v("w", w), v("b", b); }
  } line, saved;
  saved.w.detach().fill_(7);
  optim::SGD opt({{"w", line.w}, {"b", line.b}}, {.lr = 1});
  prepare_state(line, saved_state(saved), "line", At::unknown())();
  CHECK(line.w.item() == 7);
  (line.w * 2 + line.b).backward();
  opt.step();
  CHECK(line.w.item() == 5);
}

TEST_CASE("parameters become one vector, and a vector parameters") {
  const Tensor p = matrix(2, 2, 0), q = leaf({5});
  const NamedTensors all{{"p", p}, {"q", q}};
  Tensor v = parameters_to_vector(all);
  CHECK(v.shape() == Shape{5});
  CHECK(v.select(0, 4).item() == 5);
  CHECK_FALSE(v.requires_grad());
  const NoGradGuard no_grad;
  v *= 2;
  CHECK(q.item() == 5);
  vector_to_parameters(v, all);
  CHECK(q.item() == 10);
  CHECK(values(p)[3] == 2);
  CHECK(refusal<ShapeError>([&] { vector_to_parameters(zeros({4}, float64), all); }) ==
        "vector_to_parameters: vector [4] for parameters of 5 elements: need [5]");
  CHECK_THROWS_AS(parameters_to_vector({}), ValueError);
  CHECK_THROWS_AS(parameters_to_vector({{"p", p}, {"h", zeros({1})}}), DtypeError);
}

TEST_CASE("every class that remembers something saves it, and is tested here or beside it") {
  // By the headers: who has a public step, state_dict or visit.
  std::map<std::string, std::set<std::string>> members;
  for (const char* folder : {"core", "nn", "optim", "data"})
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::string(DESCENT_ROOT "/") + folder)) {
      if (entry.path().extension() != ".hpp") continue;
      std::ifstream file(entry.path());
      std::string name;
      for (std::string line; std::getline(file, line);) {
        for (const std::string kind : {"class ", "struct "})
          if (line.starts_with(kind) && line.back() == '{')
            name = line.substr(kind.size(), line.find_first_of(" :", kind.size()) - kind.size());
        if (line.starts_with("}")) name.clear();
        if (name.empty()) continue;
        line = line.substr(0, line.find("//"));
        for (const char* member : {" step(", "state_dict() const", "void visit(V& v)"})
          if (line.find(member) != std::string::npos) members[name].insert(member);
      }
    }
  const std::set<std::string> tested{"Generator",     "DataLoader", "Scheduler", "Plateau",
                                     "WeightAverage", "Lookahead",  "SAM",       "LBFGS",
                                     "OptimizerBase", "ModuleBase", "Accumulate"};
  for (const std::string& name : tested) CHECK_MESSAGE(members.count(name) == 1, name);
  for (const auto& named : members) {
    const std::string& name = named.first;
    if (name == "StateVisitor" || name == "Checkpoint") continue;  // which do it
    CHECK_MESSAGE(tested.count(name) == 1, name, " has state, and no row here");
    CHECK_MESSAGE(named.second.count("state_dict() const") == 1, name);
  }
}
