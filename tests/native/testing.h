// What the native tests are written with: tests register themselves, checks report and go on.
#pragma once

#include <atomic>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace testing {

using Body = void (*)();

// A test's name is <file without its ending>/<name>.
void add_test(std::string_view file, std::string_view name, Body body);

// Prints the failure and marks the running test as failed. Any thread.
void fail(std::string_view file, int line, const std::string& what);

template <typename T>
std::string show(const T& value) {
  if constexpr (requires(std::ostream& out) { out << value; }) {
    std::ostringstream text;
    text << value;
    return text.str();
  } else if constexpr (requires { value.begin() != value.end(); }) {
    std::string text = "[";
    for (const auto& item : value) text += (text.size() > 1 ? ", " : "") + show(item);
    return text + "]";
  } else {
    return "a value that cannot be shown";
  }
}

template <typename A, typename B>
void check_equal(std::string_view file, int line, std::string_view text, const A& a, const B& b) {
  if (!(a == b)) fail(file, line, std::string(text) + ": " + show(a) + " is not " + show(b));
}

template <typename Error, typename Call>
void check_throws(std::string_view file, int line, const Call& call, std::string_view part) {
  try {
    call();
  } catch (const Error& error) {
    if (std::string_view(error.what()).find(part) == std::string_view::npos) {
      fail(file, line, "'" + std::string(part) + "' is not in: " + error.what());
    }
    return;
  } catch (const std::exception& error) {
    fail(file, line, std::string("another error than the expected: ") + error.what());
    return;
  }
  fail(file, line, "nothing was thrown");
}

struct Registration {
  Registration(std::string_view file, std::string_view name, Body body) {
    add_test(file, name, body);
  }
};

}  // namespace testing

#define TEST(name)                                                                \
  static void name();                                                             \
  static const testing::Registration registration_##name(__FILE__, #name, &name); \
  static void name()

#define CHECK(condition) \
  if (condition) {       \
  } else                 \
    testing::fail(__FILE__, __LINE__, #condition)

#define CHECK_EQ(a, b) testing::check_equal(__FILE__, __LINE__, #a " == " #b, (a), (b))

// The statement throws `Error`, and its message contains `part`.
#define CHECK_THROWS(Error, part, ...) \
  testing::check_throws<Error>(__FILE__, __LINE__, [&] { __VA_ARGS__; }, part)
