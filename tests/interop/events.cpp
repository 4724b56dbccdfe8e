#include <cmath>
#include <cstdio>

#include "descent/descent.hpp"

using namespace descent;

// Writes logs for run_with_python into a folder: events FOLDER.
int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: events FOLDER\n"), 2;
  const std::string folder = argv[1];
  data::EventWriter log(folder + "/runs/first");
  log.hyperparameters({{"lr", 0.5}, {"layers", 3}, {"rule", "Adam"}, {"nesterov", false}},
                      {"loss/train"});
  log.scalar("loss/train", -INFINITY, -7);
  for (int step = 0; step < 4; ++step) log.scalar("loss/train", 1.0 / (1 << step), step);
  log.scalar("loss/train", NAN, 1000000000000);
  log.scalar("Verlust/größe 損失", 3, 1);
  log.histogram("weights", tensor({-2., 0., 0., 0.5, 1e30}), 5);
  log.histogram("weights", tensor({1., NAN, INFINITY}), 6);
  log.histogram("nothing", zeros({0}), 1);
  log.text("note", "**warm-up**, then\n\n| a | b |\n|---|---|\n| \"ä\" | 2 |", 2);
  log.text("note", "", 3);
  data::EventWriter(folder + "/runs/second").hyperparameters({{"lr", 0.25}, {"rule", "SGD"}});

  data::JsonLines lines(folder + "/metrics.jsonl");
  lines.write({{"step", 3}, {"loss", 0.25}, {"note", "\"ä\"\n\t\\\x01"}, {"good", true}});
  lines.write({{"step", INT64_MAX}, {"loss", NAN}, {"low", -INFINITY}, {"tiny", 5e-324}});
}
