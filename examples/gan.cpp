// Two networks play against each other until one draws points like those of the data.
#include <numbers>

#include "options.hpp"

using namespace descent;

constexpr int64_t kModes = 8, kNoise = 8;
constexpr double kSpread = 0.05;  // the standard deviation around each of the modes

/// Eight places on the unit circle, [8, 2].
static Tensor modes() {
  const Tensor angle = arange(kModes).to(float32) * (2 * std::numbers::pi / kModes);
  return stack({cos(angle), sin(angle)}, 1);
}

/// n points around them, [n, 2].
static Tensor real_points(int64_t n) {
  return index_select(modes(), 0, randint(0, kModes, {n})) + kSpread * randn({n, 2});
}

/// How many of the points [n, 2] are near each place, within four standard deviations: [8].
static Tensor near_modes(const Tensor& points) {
  const Tensor distance = norm(points.unsqueeze(1) - modes(), {2});
  return (distance < 4 * kSpread).sum(0);
}

/// The plane from -1.5 to 1.5, the darker a character the more points are there.
static void draw(const Tensor& points) {
  constexpr int kRows = 21, kColumns = 42;
  int count[kRows][kColumns] = {};
  const std::vector<float> xy = points.to_vector<float>();
  for (std::size_t i = 0; i < xy.size(); i += 2) {
    const float column = (xy[i] + 1.5f) / 3 * kColumns, row = (1.5f - xy[i + 1]) / 3 * kRows;
    if (column >= 0 && column < kColumns && row >= 0 && row < kRows)
      ++count[static_cast<int>(row)][static_cast<int>(column)];
  }
  for (const auto& row : count) {
    for (int n : row) std::putchar(" .:+*#@"[std::min(6, (n + 3) / 4)]);
    std::putchar('\n');
  }
}

static void train(const Options& options) {
  nn::Sequential generator{nn::Linear(kNoise, 64), relu, nn::Linear(64, 64), relu,
                           nn::Linear(64, 2)};
  nn::Sequential critic{nn::Linear(2, 64), relu, nn::Linear(64, 64), relu, nn::Linear(64, 1)};
  optim::Adam generate(generator.named_parameters(), {.lr = options.lr, .beta1 = 0.5}),
      judge(critic.named_parameters(), {.lr = options.lr, .beta1 = 0.5});
  const Tensor is_real = ones({options.batch_size, 1}), is_false = zeros_like(is_real);

  for (int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    double judged = 0, generated = 0;
    constexpr int kSteps = 100;
    // Noise on what the critic sees, less and less of it, so that it cannot reject all too early.
    const double blur =
        0.5 * (1 - static_cast<double>(epoch) / static_cast<double>(options.epochs));
    auto blurred = [&](const Tensor& points) { return points + blur * randn(points.shape()); };
    for (int step = 0; step < kSteps; ++step) {
      // The critic learns to tell real points from drawn ones.
      judge.zero_grad();
      const Tensor drawn = generator(randn({options.batch_size, kNoise}));
      Tensor loss = nn::binary_cross_entropy_with_logits(
                        critic(blurred(real_points(options.batch_size))), is_real) +
                    nn::binary_cross_entropy_with_logits(critic(blurred(drawn.detach())), is_false);
      loss.backward();
      judge.step();
      judged += loss.item();
      // The generator learns to draw what the critic takes for real.
      generate.zero_grad();
      Tensor fooled = nn::binary_cross_entropy_with_logits(critic(blurred(drawn)), is_real);
      fooled.backward();
      generate.step();
      generated += fooled.item();
    }
    if (!options.quiet && epoch % 10 == 0)
      std::printf("epoch %3ld: loss of the critic %.3f, of the generator %.3f\n", epoch,
                  judged / kSteps, generated / kSteps);
  }

  NoGradGuard no_grad;
  constexpr int64_t kPoints = 2000;
  const Tensor points = generator(randn({kPoints, kNoise}));
  const Tensor near = near_modes(points);
  const auto found = (near > kPoints / kModes / 5).sum().item<int64_t>();
  if (!options.quiet) draw(points);
  std::printf("gan: modes_found=%ld of=%ld points_near_a_mode=%.2f epochs=%ld\n", found, kModes,
              near.sum().item() / kPoints, options.epochs);
}

int main(int argc, char** argv) {
  return run_example(argc, argv, "gan", "Learns to draw points around eight places.",
                     {.epochs = 100, .batch_size = 256, .lr = 1e-3}, train);
}
