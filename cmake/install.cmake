# The wheel's layout: libraries, headers and the CMake package inside the Python package.
include(CMakePackageConfigHelpers)
install(TARGETS corestream_core EXPORT corestreamTargets LIBRARY DESTINATION corestream/lib)
install(DIRECTORY include/corestream DESTINATION corestream/include)
install(EXPORT corestreamTargets NAMESPACE corestream:: DESTINATION corestream/cmake)
configure_package_config_file(cmake/corestreamConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/corestreamConfig.cmake INSTALL_DESTINATION corestream/cmake)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/corestreamConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/corestreamConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/corestreamConfigVersion.cmake DESTINATION corestream/cmake)
if(CORESTREAM_BUILD_TORCH)
  # A file of its own: it names libtorch's targets, which programs without torch do not have.
  install(TARGETS corestream_torch EXPORT corestreamTorchTargets
    LIBRARY DESTINATION corestream/lib)
  install(EXPORT corestreamTorchTargets NAMESPACE corestream:: DESTINATION corestream/cmake)
endif()
if(CORESTREAM_BUILD_PYTHON)
  # Readable without loading anything: the torch version is checked before _torch is.
  file(CONFIGURE OUTPUT _build.py CONTENT [[
"""What the native part was built against; written by the build."""

from __future__ import annotations

torch_version = "@Torch_VERSION@"
]] @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/_build.py DESTINATION corestream)
  install(TARGETS _core _torch LIBRARY DESTINATION corestream)
endif()
