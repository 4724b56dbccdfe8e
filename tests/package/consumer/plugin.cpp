// The library inside a plugin: one step of training, cut into tiles that the pool's threads share.
#include <descent/descent.hpp>

using namespace descent;

extern "C" [[gnu::visibility("default")]] double train_a_step();
extern "C" double train_a_step() {
  set_num_threads(3);
  Generator generator(1);
  const Tensor x = randn({20'000, 64}, float32, generator);
  nn::Linear layer(64, 8);
  optim::Adam optimizer(layer.named_parameters());
  const Tensor loss = (layer(x) * layer(x)).mean();
  loss.backward();
  optimizer.step();
  return loss.item();
}
