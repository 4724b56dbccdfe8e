// A table with categories and gaps: is a penguin female? Early stopping keeps the best weights.
#include <algorithm>

#include "options.hpp"

using namespace descent;

/// The rows of the table without gaps. x: the measures, and each category as columns of 0 and 1;
/// y: 1 for a female.
static data::TensorDataset penguins(const std::string& folder) {
  const data::Csv table = data::read_csv(folder + "/penguins.csv",
                                         {.missing = {"NA"}, .text = {"species", "island", "sex"}});
  std::vector<Tensor> columns{table.one_hot("species"), table.one_hot("island")};
  for (const char* name : {"bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"})
    columns.push_back(table.column(name).unsqueeze(1));
  const Tensor x = cat(columns, 1), sex = table.one_hot("sex");
  const std::vector<std::string>& sexes = table.categories.at(6);
  const auto female = std::find(sexes.begin(), sexes.end(), "female") - sexes.begin();
  // A gap makes a row of zeros in `sex`, and a NaN in the measures.
  const Tensor complete = logical_and(sex.sum(1) == 1, isfinite(x.sum(1)));
  const Tensor rows = masked_select(arange(x.size(0)), complete);
  return {index_select(x, 0, rows), index_select(sex.narrow(1, female, 1), 0, rows)};
}

/// The F1 score of "female", where the logit is above 0.
static double f1_score(const Tensor& logits, const Tensor& y) {
  const Tensor confusion = nn::confusion_matrix((logits > 0).to(int64), y.to(int64), 2);
  return nn::class_scores(confusion).f1[1].item();
}

static void train(const Options& options) {
  const data::TensorDataset all = penguins(options.data);
  const Tensor order = randperm(all.size());
  const int64_t fifth = all.size() / 5;
  const data::Batch test = all.batch(order.narrow(0, 0, fifth)),
                    valid = all.batch(order.narrow(0, fifth, fifth)),
                    fit = all.batch(order.narrow(0, 2 * fifth, all.size() - 2 * fifth));
  const data::Standardizer standardize(fit.x);  // measured on what is trained on, and only there
  data::DataLoader loader(
      data::TensorDataset(standardize(fit.x), fit.y),
      {.batch_size = options.batch_size, .shuffle = true, .seed = options.seed});

  nn::Sequential net{nn::Linear(all.x().size(1), 32), relu, nn::Dropout(0.2), nn::Linear(32, 1)};
  net.to(float64);
  optim::AdamW opt(net.named_parameters(), {.lr = options.lr});
  auto loss_of = [&](const data::Batch& part) {
    nn::EvalGuard eval(net);
    NoGradGuard no_grad;
    return nn::binary_cross_entropy_with_logits(net(standardize(part.x)), part.y).item();
  };
  constexpr int64_t kPatience = 30;  // epochs without a better validation loss
  NamedTensors best;
  double best_loss = INFINITY;
  int64_t best_epoch = 0, epoch = 0;
  for (; epoch < options.epochs && epoch - best_epoch < kPatience; ++epoch) {
    for (auto [x, y] : loader) {
      opt.zero_grad();
      Tensor output = net(x);
      Tensor loss = nn::binary_cross_entropy_with_logits(output, y);
      loss.backward();
      opt.step();
    }
    const double loss = loss_of(valid);
    if (loss < best_loss) best_loss = loss, best_epoch = epoch, best = net.state_dict();
    if (!options.quiet && epoch % 10 == 0)
      std::printf("epoch %3ld: loss %.4f, on the validation set %.4f\n", epoch, loss_of(fit), loss);
  }
  if (best.empty()) throw NumericError("the loss is not finite: a smaller --lr?");
  net.load_state_dict(best);
  if (!options.export_to.empty()) save(options.export_to, best);

  nn::EvalGuard eval(net);
  NoGradGuard no_grad;
  const Tensor logits = net(standardize(test.x));
  std::printf("tabular: rows=%ld test_f1=%.3f test_auc=%.3f best_epoch=%ld stopped_after=%ld\n",
              all.size(), f1_score(logits, test.y), nn::roc_auc(logits, test.y.to(int64)),
              best_epoch, epoch);
}

int main(int argc, char** argv) {
  return run_example(
      argc, argv, "tabular", "Tells female penguins by measures and categories.",
      {.data = DESCENT_DATA "/penguins", .epochs = 500, .batch_size = 32, .lr = 3e-3}, train);
}
