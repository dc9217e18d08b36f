# The torch that the build's Python has: found through it, so that a plain build needs no path.
find_package(Python COMPONENTS Interpreter Development.Module REQUIRED)
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import torch; print(torch.utils.cmake_prefix_path)"
  OUTPUT_VARIABLE torch_prefix OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
list(APPEND CMAKE_PREFIX_PATH ${torch_prefix})
find_package(Torch 2.11 REQUIRED)

# SYSTEM headers: torch's own warnings are not ours to fix.
add_library(corestream_libtorch INTERFACE)
target_include_directories(corestream_libtorch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_link_libraries(corestream_libtorch INTERFACE ${TORCH_LIBRARIES})
target_compile_options(corestream_libtorch INTERFACE ${TORCH_CXX_FLAGS})
