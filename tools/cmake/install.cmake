# Headers, library, programs, and what find_package(cairn) and pkg-config need.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(CAIRN_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cairn)

install(DIRECTORY include/cairn TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(TARGETS cairn EXPORT cairnTargets)
foreach(program IN ITEMS store-inspect kv-offload)
  if(TARGET ${program})
    install(TARGETS ${program})
  endif()
endforeach()

install(EXPORT cairnTargets NAMESPACE cairn:: DESTINATION ${CAIRN_CMAKE_DIR})
get_target_property(CAIRN_LIBRARY_TYPE cairn TYPE)
set(CAIRN_LINKS_CUDA ${CUDAToolkit_FOUND})
configure_package_config_file(tools/cmake/cairnConfig.cmake.in cairnConfig.cmake
  INSTALL_DESTINATION ${CAIRN_CMAKE_DIR})
write_basic_package_version_file(cairnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cairnConfig.cmake ${PROJECT_BINARY_DIR}/cairnConfigVersion.cmake
  DESTINATION ${CAIRN_CMAKE_DIR})

# The .pc is relative to where it lies, so an installation can be moved.
file(RELATIVE_PATH CAIRN_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
set(CAIRN_PC_REQUIRES
  "absl_any_invocable absl_span absl_status absl_statusor absl_time")
set(CAIRN_PC_LIBS "")
if(CAIRN_LIBRARY_TYPE STREQUAL "STATIC_LIBRARY")
  # Public there, so that a static library links without pkg-config --static, which would also ask
  # for the static form of everything below.
  string(APPEND CAIRN_PC_REQUIRES " absl_flat_hash_map absl_function_ref absl_inlined_vector"
    " absl_str_format absl_strings liburing numa rocksdb libxxhash")
  set(CAIRN_PC_LIBS "-pthread")
  if(CUDAToolkit_FOUND)
    string(APPEND CAIRN_PC_LIBS " -L\"${CUDAToolkit_LIBRARY_DIR}\" -lcudart_static -lrt -ldl")
  endif()
endif()
configure_file(tools/cmake/cairn.pc.in cairn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cairn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
