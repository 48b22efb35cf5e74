# The one thing others link: the objects of all layers, as a static or shared library
# (BUILD_SHARED_LIBS). Only what is marked CAIRN_EXPORT can be seen from outside of a shared one.
# Tests, tools and benchmarks link the layers instead, and so may look inside.
add_library(cairn
  $<TARGET_OBJECTS:cairn_base> $<TARGET_OBJECTS:cairn_io>
  $<TARGET_OBJECTS:cairn_tiers> $<TARGET_OBJECTS:cairn_core> $<TARGET_OBJECTS:cairn_c_api>)
add_library(cairn::cairn ALIAS cairn)
target_compile_features(cairn PUBLIC cxx_std_20)
target_include_directories(cairn PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
# Public: what the headers in include/ use. The rest reaches only those who link a static library.
target_link_libraries(cairn
  PUBLIC absl::any_invocable absl::span absl::status absl::statusor absl::time
  PRIVATE absl::flat_hash_map absl::function_ref absl::inlined_vector absl::str_format
          absl::strings Threads::Threads PkgConfig::liburing PkgConfig::numa PkgConfig::rocksdb
          PkgConfig::xxhash)
if(CUDAToolkit_FOUND)
  target_link_libraries(cairn PRIVATE CUDA::cudart_static)
endif()
set_target_properties(cairn PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
