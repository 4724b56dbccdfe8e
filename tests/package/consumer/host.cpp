// A program that opens the plugin given to it, trains, closes it and runs on. It links no descent.
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <thread>

namespace {

using Train = double();

void* opened(const char* plugin) {
  void* handle = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
  if (handle) return handle;
  std::printf("%s\n", dlerror());
  std::exit(1);
}

double trained(void* plugin) {
  auto* train = reinterpret_cast<Train*>(dlsym(plugin, "train_a_step"));
  return train ? train() : -1;
}

}  // namespace

int main(int, char** arguments) {
  double loss = 0;
  for (int i = 0; i < 3; ++i) {
    void* plugin = opened(arguments[1]);
    loss = trained(plugin);
    dlclose(plugin);  // while the pool's threads still look for work
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (!(loss > 0)) return 1;
  }
  // A thread that has used it ends after it was closed: its thread-local objects go then.
  std::barrier closed(2);
  void* plugin = opened(arguments[1]);
  std::thread user([&] {
    trained(plugin);
    closed.arrive_and_wait();
    closed.arrive_and_wait();
  });
  closed.arrive_and_wait();
  dlclose(plugin);
  closed.arrive_and_wait();
  user.join();
  std::printf("a plugin trained, was closed, and the program ran on: loss %.4f\n", loss);
}
