#include <algorithm>

#include "support.hpp"

using namespace descent;

// Metrics against their plain definitions. (accuracy has tests in test_loss and test_modules too.)

namespace {

/// By all pairs of an example of class 1 and one of class 0.
double roc_auc_of_pairs(const Values& score, const Ints& label) {
  double wins = 0, pairs = 0;
  for (std::size_t i = 0; i < score.size(); ++i)
    for (std::size_t j = 0; j < score.size(); ++j)
      if (label[i] == 1 && label[j] == 0) {
        wins += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
        ++pairs;
      }
  return wins / pairs;
}

/// The mean over the examples of class 1 of the precision at their score.
double average_precision_of_pairs(const Values& score, const Ints& label) {
  double total = 0, positives = 0;
  for (std::size_t i = 0; i < score.size(); ++i) {
    if (label[i] != 1) continue;
    double above = 0, hits = 0;
    for (std::size_t j = 0; j < score.size(); ++j)
      if (score[j] >= score[i]) ++above, hits += label[j] == 1 ? 1 : 0;
    total += hits / above;
    ++positives;
  }
  return total / positives;
}

}  // namespace

TEST_CASE("roc_auc and average_precision equal their definitions by pairs, with ties too") {
  Generator generator(1);
  for (int64_t n : {2, 3, 10, 57, 200})
    for (double step : {0.0, 1.0, 4.0}) {
      for (int repeat = 0; repeat < 5; ++repeat) {
        Tensor scores = randn({n}, float32, generator);
        if (step != 0) scores = round(scores * step);
        Ints label = randint(0, 2, {n}, generator).to_vector<int64_t>();
        label[0] = 0, label[1] = 1;
        const Values score = values(scores);
        CHECK(nn::roc_auc(scores, tensor(label)) ==
              doctest::Approx(roc_auc_of_pairs(score, label)).epsilon(1e-12));
        CHECK(nn::average_precision(scores, tensor(label)) ==
              doctest::Approx(average_precision_of_pairs(score, label)).epsilon(1e-12));
      }
    }
  const Tensor known = tensor({0.1, 0.4, 0.35, 0.8}, float64), target = tensor({0, 0, 1, 1});
  CHECK(nn::roc_auc(known, target) == 0.75);
  CHECK(nn::average_precision(known, target) == doctest::Approx(5.0 / 6));
  CHECK(nn::roc_auc(tensor({-kInf, kInf}, float64), tensor({0, 1})) == 1);
  CHECK(nn::roc_auc(slice(tensor({0., 9., 1., 9.}), 0, 0, 4, 2), tensor({0, 1})) == 1);
}

TEST_CASE("top_k_accuracy counts targets among the k largest logits") {
  const Tensor logits =
      tensor({{1., 2., 0.}, {3., 1., 1.}, {0., 0., 0.}, {kNan, kNan, 9.}}, float64);
  const Tensor target = tensor({0, 2, 1, 1});
  CHECK(nn::top_k_accuracy(logits, target, 1) == 0);
  CHECK(nn::top_k_accuracy(logits, target, 2) == 0.75);
  CHECK(nn::top_k_accuracy(logits, target, 3) == 1);
  CHECK(nn::top_k_accuracy(logits, target, 100) == 1);
  CHECK(nn::accuracy(logits, tensor({1, 0, 0, 0})) == 1);
  CHECK(nn::accuracy(logits, argmax(logits, 1)) == 1);
  const Tensor large = round(noise({100, 7}, 4) * 2), label = argmax(noise({100, 7}, 5), 1);
  CHECK(nn::accuracy(large, label) == doctest::Approx(sum(argmax(large, 1) == label).item() / 100));
  CHECK(refusal<ValueError>([&] { (void)nn::top_k_accuracy(logits, target, 0); }) ==
        "top_k_accuracy: k is 0: need at least 1");
  CHECK(refusal<IndexError>([&] { (void)nn::top_k_accuracy(logits, target + 2, 1); }) ==
        "top_k_accuracy: target[1] is 4, but logits [4, 3] allow 0..2");
}

TEST_CASE("class_scores follow from the confusion matrix, for classes that are absent too") {
  const Tensor target = tensor({0, 0, 0, 1, 1, 3}), prediction = tensor({0, 0, 1, 1, 2, 3});
  const Tensor m = nn::confusion_matrix(prediction, target, 5);
  CHECK(ints(m) == Ints{2, 1, 0, 0, 0,  //
                        0, 1, 1, 0, 0,  //
                        0, 0, 0, 0, 0,  //
                        0, 0, 0, 1, 0,  //
                        0, 0, 0, 0, 0});
  const nn::ClassScores each = nn::class_scores(m);
  CHECK(values(each.precision) == Values{1, 0.5, 0, 1, 0});
  CHECK(values(each.recall) == Values{2.0 / 3, 0.5, 0, 1, 0});
  CHECK(values(each.f1) == Values{4.0 / 5, 0.5, 0, 1, 0});
  const nn::ClassScores macro = nn::class_scores(m, nn::Average::macro);
  CHECK(macro.precision.item() == doctest::Approx(2.5 / 5));
  CHECK(macro.recall.item() == doctest::Approx((2.0 / 3 + 1.5) / 5));
  CHECK(macro.f1.item() == doctest::Approx(2.3 / 5));
  const nn::ClassScores weighted = nn::class_scores(m, nn::Average::weighted);
  CHECK(weighted.precision.item() == doctest::Approx((3 + 2 * 0.5 + 1) / 6));
  CHECK(weighted.recall.item() == doctest::Approx(4.0 / 6));
  CHECK(weighted.f1.item() == doctest::Approx((3 * 0.8 + 2 * 0.5 + 1) / 6));
  const nn::ClassScores micro = nn::class_scores(m, nn::Average::micro);
  for (const Tensor& score : {micro.precision, micro.recall, micro.f1})
    CHECK(score.item() == doctest::Approx(4.0 / 6));

  CHECK(ints(nn::confusion_matrix(prediction.reshape({2, 3}), target.reshape({2, 3}), 5)) ==
        ints(m));
  const Tensor empty = zeros({2, 2}, int64);
  for (const auto average : {nn::Average::macro, nn::Average::weighted, nn::Average::micro})
    CHECK(nn::class_scores(empty, average).f1.item() == 0);
}

TEST_CASE("r2_score is 1 less the share of the variance that is left") {
  const Tensor target = tensor({3., -0.5, 2., 7.}, float64);
  CHECK(nn::r2_score(tensor({2.5, 0., 2., 8.}, float64), target) ==
        doctest::Approx(0.9486081370449679));
  CHECK(nn::r2_score(target, target) == 1);
  CHECK(nn::r2_score(ones({4}, float64) * mean(target), target) == 0);
  CHECK(nn::r2_score(ones({3}), ones({3})) == 1);
  CHECK(nn::r2_score(zeros({3}), ones({3})) == 0);
}

TEST_CASE("RunningMean is the weighted mean of what was added") {
  nn::RunningMean mean;
  CHECK(mean.mean == 0);
  mean.add(5, 0);
  CHECK(mean.mean == 0);
  mean.add(2);
  mean.add(4);
  CHECK(mean.mean == 3);
  mean.add(9, 4);
  CHECK(mean.mean == doctest::Approx(7));
  CHECK(mean.weight == 6);
  nn::RunningMean large;
  for (int i = 0; i < 100000; ++i) large.add(1e300);
  CHECK(large.mean == 1e300);
}

TEST_CASE("metrics refuse classes out of range, and what has no value") {
  const Tensor scores = tensor({0.5, 0.5}), one = tensor({1, 1});
  CHECK(refusal<ValueError>([&] { (void)nn::roc_auc(scores, one); }) ==
        "roc_auc: only one class occurs in target: need both");
  CHECK(refusal<ValueError>([&] { (void)nn::average_precision(scores, one * 0); }) ==
        "average_precision: class 1 does not occur in target");
  CHECK(refusal<IndexError>([&] { (void)nn::roc_auc(scores, one + 1); }) ==
        "roc_auc: target[0] is 2, but scores of two classes [2] allow 0..1");
  CHECK(refusal<ValueError>([&] { (void)nn::roc_auc(scores * kNan, one); }) ==
        "roc_auc: a score is NaN: need an order");
  CHECK(refusal<ShapeError>([&] { (void)nn::roc_auc(zeros({0}), zeros({0}, int64)); }) ==
        "roc_auc: scores [0] with target [0]: need one shape, and elements");
  CHECK(refusal<DtypeError>([&] { (void)nn::average_precision(scores, scores); }) ==
        "average_precision: target is float32: need int64 class numbers");
  CHECK(refusal<IndexError>([&] { (void)nn::confusion_matrix(one, one * 3, 2); }) ==
        "confusion_matrix: target[0] is 3, but counts [2, 2] allow 0..1");
  CHECK(refusal<IndexError>([&] { (void)nn::confusion_matrix(one - 2, one, 2); }) ==
        "confusion_matrix: prediction[0] is -1, but counts [2, 2] allow 0..1");
  CHECK(refusal<ShapeError>([&] { (void)nn::confusion_matrix(one, tensor({1}), 2); }) ==
        "confusion_matrix: prediction [2] with target [1]: need one shape, and elements");
  CHECK(refusal<ShapeError>([&] {
          (void)nn::class_scores(zeros({2, 3}));
        }) == "class_scores: confusion [2, 3]: need [K, K]");
  CHECK(refusal<ShapeError>([&] { (void)nn::r2_score(zeros({2}), zeros({3})); }) ==
        "r2_score: prediction [2] with target [3]: need one shape, and elements");
  CHECK(refusal<ShapeError>([&] { (void)nn::r2_score(zeros({0}), zeros({0})); }) ==
        "r2_score: prediction [0] with target [0]: need one shape, and elements");
  CHECK(refusal<DtypeError>([&] { (void)nn::r2_score(one, one); }) ==
        "r2_score: target is int64: need a floating dtype");
}
