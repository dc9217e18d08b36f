#include "corestream/task.h"

#include <latch>
#include <string>
#include <thread>

#include "support.h"

namespace corestream {
namespace {

int add(int a, int b) { return a + b; }

void append(std::string& text, const std::string& more) { text += more; }

// Streams for a task, on a machine that is pretended.
class Machine {
 public:
  explicit Machine(int num_streams) : cpus_(num_streams) {
    executor = std::make_shared<TaskExecutor>(CPUPool(allowed_cpus()), num_streams);
  }

 private:
  SimulatedCpus cpus_;

 public:
  std::shared_ptr<TaskExecutor> executor;
};

TEST(a_function_pointer_runs) {
  const Machine machine(1);
  const Task<int (*)(int, int), int, int> named(add, machine.executor);
  CHECK_EQ(named(2, 3).get(), 5);
  const Task deduced(&add, machine.executor);
  CHECK_EQ(deduced(4, 5).get(), 9);
}

TEST(a_std_function_runs) {
  const Machine machine(1);
  const std::function<int(int)> twice = [](int value) { return 2 * value; };
  const Task<std::function<int(int)>, int> task(twice, machine.executor);
  CHECK_EQ(task(21).get(), 42);
}

TEST(a_capturing_lambda_runs) {
  const Machine machine(1);
  const std::string greeting = "hello ";
  const Task task([greeting](const std::string& name) { return greeting + name; },
                  machine.executor);
  CHECK_EQ(task(std::string("stream")).get(), "hello stream");
}

TEST(a_callable_may_be_movable_only) {
  const Machine machine(1);
  const Task task([held = std::make_unique<int>(7)] { return *held; }, machine.executor);
  CHECK_EQ(task().get(), 7);
  CHECK_EQ(task().get(), 7);
}

TEST(a_member_function_runs) {
  const Machine machine(1);
  std::string text = "abc";
  const Task task(static_cast<size_t (std::string::*)() const>(&std::string::size),
                  machine.executor);
  CHECK_EQ(task(text).get(), 3u);
}

TEST(lvalues_stay_references) {
  const Machine machine(1);
  std::string output = "a";
  const std::string more = "b";
  const Task task(append, machine.executor);
  task(output, more).get();
  CHECK_EQ(output, "ab");
  const Task address([](const std::string& value) { return &value; }, machine.executor);
  CHECK(address(output).get() == &output);
  CHECK(address(more).get() == &more);
}

TEST(a_result_may_be_a_reference) {
  const Machine machine(1);
  int value = 1;
  const Task task([](int& target) -> int& { return ++target; }, machine.executor);
  std::future<int&> future = task(value);
  CHECK(&future.get() == &value);
  CHECK_EQ(value, 2);
}

TEST(rvalues_are_stored) {
  const Machine machine(1);
  const Task task([](const std::string& text) { return text + "!"; }, machine.executor);
  std::vector<std::future<std::string>> futures;
  for (int number = 0; number < 20; ++number) {
    // Longer than what std::string keeps inside itself.
    futures.push_back(task(std::string(40, static_cast<char>('a' + number))));
  }
  for (int number = 0; number < 20; ++number) {
    CHECK_EQ(futures[number].get(), std::string(40, static_cast<char>('a' + number)) + "!");
  }
}

TEST(arguments_and_results_may_be_movable_only) {
  const Machine machine(1);
  const Task task(
      [](std::unique_ptr<int> value) {
        ++*value;
        return value;
      },
      machine.executor);
  CHECK_EQ(*task(std::make_unique<int>(1)).get(), 2);
}

TEST(a_future_carries_the_exception) {
  const Machine machine(1);
  const Task task([](int value) -> int { throw std::out_of_range("got " + std::to_string(value)); },
                  machine.executor);
  for (int round = 0; round < 3; ++round) {
    auto future = task(int(round));
    CHECK_THROWS(std::out_of_range, "got " + std::to_string(round), future.get());
  }
  CHECK_EQ(Task(add, machine.executor)(1, 1).get(), 2);
}

TEST(arguments_are_let_go_before_the_future_is_ready) {
  const Machine machine(1);
  const auto held = std::make_shared<int>(1);
  for (const bool fails : {false, true}) {
    const Task task(
        [fails](const std::shared_ptr<int>& value) {
          if (fails) throw std::runtime_error("fails");
          return *value;
        },
        machine.executor);
    auto future = task(std::shared_ptr<int>(held));
    future.wait();
    CHECK_EQ(held.use_count(), 1);
  }
}

TEST(a_task_may_die_while_it_runs) {
  const Machine machine(1);
  std::latch begun(1), gate(1);
  const auto held = std::make_shared<int>(5);
  auto task = std::make_unique<Task<std::function<int()>>>(
      [&, held] {
        begun.count_down();
        gate.wait();
        return *held;
      },
      machine.executor);
  auto running = (*task)();
  begun.wait();
  task.reset();
  CHECK_EQ(held.use_count(), 2);
  gate.count_down();
  CHECK_EQ(running.get(), 5);
  CHECK_EQ(held.use_count(), 1);
}

TEST(an_executor_that_dies_runs_its_tasks) {
  std::vector<std::future<int>> futures;
  {
    const Machine machine(2);
    const Task task(add, machine.executor);
    for (int number = 0; number < 50; ++number) futures.push_back(task(int(number), 1));
  }
  for (int number = 0; number < 50; ++number) CHECK_EQ(futures[number].get(), number + 1);
}

TEST(streams_run_a_task_at_once) {
  const Machine machine(3);
  std::latch all(3);
  const Task task([&] { all.arrive_and_wait(); }, machine.executor);
  std::vector<std::future<void>> futures;
  for (int call = 0; call < 3; ++call) futures.push_back(task());
  for (auto& future : futures) future.get();
}

TEST(many_threads_may_call_a_task) {
  constexpr int kCallers = 4, kCalls = 300;
  const Machine machine(2);
  const Task task(add, machine.executor);
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      for (int call = 0; call < kCalls; ++call) right += task(caller, call).get() == caller + call;
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK_EQ(right.load(), kCallers * kCalls);
}

}  // namespace
}  // namespace corestream
