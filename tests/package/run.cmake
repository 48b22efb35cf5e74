# cmake -D STEP=install|find_package|pkg_config|add_subdirectory -D ... -P run.cmake: installs
# Cairn's build to WORK_DIR/prefix, or configures, builds and runs the consumer against that.
set(prefix "${WORK_DIR}/prefix")
set(build "${WORK_DIR}/${STEP}")

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed (${result}): ${command}")
  endif()
endfunction()

function(configure)
  file(REMOVE_RECURSE "${build}")
  run("${CMAKE_COMMAND}" -S "${CMAKE_CURRENT_LIST_DIR}" -B "${build}" -G Ninja
    "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
    "-DCMAKE_BUILD_TYPE=${BUILD_TYPE}" ${ARGN})
endfunction()

if(STEP STREQUAL "install")
  file(REMOVE_RECURSE "${prefix}")
  run("${CMAKE_COMMAND}" --install "${CAIRN_BUILD_DIR}" --prefix "${prefix}")
elseif(STEP STREQUAL "find_package")
  configure("-DCMAKE_PREFIX_PATH=${prefix}")
  run("${CMAKE_COMMAND}" --build "${build}")
  run("${build}/consumer")
elseif(STEP STREQUAL "pkg_config")
  set(ENV{PKG_CONFIG_PATH} "${prefix}/${LIBDIR}/pkgconfig")
  execute_process(COMMAND pkg-config --cflags --libs cairn OUTPUT_VARIABLE cairn_flags
    COMMAND_ERROR_IS_FATAL ANY OUTPUT_STRIP_TRAILING_WHITESPACE)
  separate_arguments(cairn_flags UNIX_COMMAND "${cairn_flags}")
  file(MAKE_DIRECTORY "${build}")
  run("${COMPILER}" -std=c++20 "${CMAKE_CURRENT_LIST_DIR}/main.cc" -o "${build}/consumer"
    ${cairn_flags})
  set(ENV{LD_LIBRARY_PATH} "${prefix}/${LIBDIR}:$ENV{LD_LIBRARY_PATH}")
  run("${build}/consumer")
elseif(STEP STREQUAL "add_subdirectory")
  # Only configured: its sources have been compiled already.
  configure("-DCAIRN_SUBDIRECTORY=${CAIRN_SOURCE_DIR}" "-DCAIRN_CUDA=${CUDA}")
else()
  message(FATAL_ERROR "no such step: ${STEP}")
endif()
