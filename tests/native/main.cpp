// native_tests [--list] [PREFIX...]: runs the tests whose names start with one of the prefixes.
#include <algorithm>
#include <mutex>
#include <vector>

#include "testing.h"

namespace testing {
namespace {

struct Test {
  std::string name;
  Body body;
};

// In a function: registrations of other files run before this file's globals are made.
std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

std::mutex output;
std::atomic<int> num_failures{0};

bool is_chosen(const Test& test, const std::vector<std::string>& prefixes) {
  return prefixes.empty() || std::any_of(prefixes.begin(), prefixes.end(),
                                         [&](const auto& p) { return test.name.starts_with(p); });
}

bool passes(const Test& test) {
  const int before = num_failures;
  std::cout << test.name << std::endl;
  try {
    test.body();
  } catch (const std::exception& error) {
    fail(test.name, 0, std::string("left with: ") + error.what());
  }
  return num_failures == before;
}

}  // namespace

void add_test(std::string_view file, std::string_view name, Body body) {
  file.remove_prefix(file.find_last_of('/') + 1);
  file.remove_suffix(file.size() - file.find('.'));
  tests().push_back({std::string(file) + "/" + std::string(name), body});
}

void fail(std::string_view file, int line, const std::string& what) {
  const std::lock_guard lock(output);
  ++num_failures;
  std::cout << file << ":" << line << ": " << what << std::endl;
}

int run(const std::vector<std::string>& arguments) {
  const bool list = !arguments.empty() && arguments.front() == "--list";
  int ran = 0, failed = 0;
  for (const Test& test : tests()) {
    if (list) std::cout << test.name << "\n";
    if (list || !is_chosen(test, arguments)) continue;
    ++ran;
    failed += passes(test) ? 0 : 1;
  }
  if (!list) std::cout << ran << " ran, " << failed << " failed" << std::endl;
  return list || (ran > 0 && failed == 0) ? 0 : 1;
}

}  // namespace testing

int main(int argc, char** argv) { return testing::run({argv + 1, argv + argc}); }
