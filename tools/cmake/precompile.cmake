# cairn_precompile(TARGET...): with CAIRN_PRECOMPILE on, the headers of others are parsed once for
# all of these targets instead of once a file. For tests alone where a build judges what each file
# of the library includes (preset dev), for a precompiled header hides what is missing.
function(cairn_precompile)
  if(CAIRN_PRECOMPILE AND NOT CAIRN_PRECOMPILE STREQUAL "TESTS")
    foreach(target IN LISTS ARGN)
      target_precompile_headers(${target} REUSE_FROM cairn_precompiled)
    endforeach()
  endif()
endfunction()

# The same for a test over the layer, with the headers of GoogleTest; over the core, with the fixture
# of the stores' tests too: what it includes takes half the time of each.
function(cairn_precompile_test target layer)
  if(CAIRN_PRECOMPILE AND layer STREQUAL "core")
    target_precompile_headers(${target} REUSE_FROM cairn_precompiled_store_test)
  elseif(CAIRN_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM cairn_precompiled_test)
  endif()
endfunction()

if(NOT CAIRN_PRECOMPILE)
  return()
endif()
file(WRITE ${PROJECT_BINARY_DIR}/precompiled/none.cc "")
set(cairn_headers
  <algorithm> <array> <atomic> <chrono> <cstdint> <cstring> <deque> <filesystem> <functional>
  <map> <memory> <optional> <set> <string> <string_view> <thread> <utility> <vector>
  <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_cat.h>
  <absl/strings/str_format.h> <absl/time/time.h> <absl/types/span.h>)
add_library(cairn_precompiled OBJECT EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/precompiled/none.cc)
target_link_libraries(cairn_precompiled PRIVATE cairn_flags absl::statusor absl::str_format)
target_precompile_headers(cairn_precompiled PRIVATE ${cairn_headers})
if(CAIRN_BUILD_TESTS)
  find_package(GTest REQUIRED)
  # Programs, as the tests are: the compilers take it only with the flags it was made with.
  foreach(target IN ITEMS cairn_precompiled_test cairn_precompiled_store_test)
    add_executable(${target} EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/precompiled/none.cc)
    target_link_libraries(${target} PRIVATE cairn_flags cairn_test_flags absl::statusor
      absl::str_format GTest::gtest GTest::gtest_main GTest::gmock)
    target_precompile_headers(${target} PRIVATE
      ${cairn_headers} <fstream> <random> <gmock/gmock.h> <gtest/gtest.h>)
  endforeach()
  target_include_directories(cairn_precompiled_store_test PRIVATE
    ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  target_precompile_headers(cairn_precompiled_store_test PRIVATE
    ${PROJECT_SOURCE_DIR}/tests/disk_fixture.h ${PROJECT_SOURCE_DIR}/tests/store_fixture.h)
endif()
