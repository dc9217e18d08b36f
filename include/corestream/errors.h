// The errors the C++ library throws.
//
//   std::invalid_argument   an argument is wrong; nothing was changed
//   AffinityError           the kernel refused a mask (errno and the CPUs are in the message)
//   QueueFull               a bounded queue has no room; nothing was queued
//   ShutDown                the executor no longer takes work
//   Cancelled               the task was cancelled before it started
//   ForkedFuture            the task belongs to the process this one was forked from
#pragma once

#include <stdexcept>
#include <string>
#include <system_error>

namespace corestream {

class AffinityError : public std::system_error {
 public:
  AffinityError(int error_number, const std::string& what)
      : std::system_error(error_number, std::generic_category(), what) {}
};

class QueueFull : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ShutDown : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Cancelled : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ForkedFuture : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace corestream
