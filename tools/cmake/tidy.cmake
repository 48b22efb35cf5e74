# Targets `tidy` (clang-tidy, once per source file that changed since it was clean) and
# `format_check` (clang-format). Both are of clang 14: another version formats and warns
# differently, so where only such a one is found the targets say so and pass.
set(CAIRN_CLANG_TOOLS_VERSION 14)

function(cairn_find_clang_tool variable name)
  find_program(${variable} NAMES ${name}-${CAIRN_CLANG_TOOLS_VERSION} ${name})
  set(usable OFF)
  if(${variable})
    execute_process(COMMAND ${${variable}} --version OUTPUT_VARIABLE version)
    if(version MATCHES "version ${CAIRN_CLANG_TOOLS_VERSION}\\.")
      set(usable ON)
    endif()
  endif()
  set(${variable}_USABLE ${usable} PARENT_SCOPE)
endfunction()
cairn_find_clang_tool(CAIRN_CLANG_TIDY clang-tidy)
cairn_find_clang_tool(CAIRN_CLANG_FORMAT clang-format)

set(cairn_globs "")
foreach(folder IN ITEMS include src io tiers tools bench tests python)
  list(APPEND cairn_globs ${PROJECT_SOURCE_DIR}/${folder}/*.cc ${PROJECT_SOURCE_DIR}/${folder}/*.h
       ${PROJECT_SOURCE_DIR}/${folder}/*.c)
endforeach()
file(GLOB_RECURSE cairn_files CONFIGURE_DEPENDS ${cairn_globs})
set(cairn_headers ${cairn_files})
list(FILTER cairn_headers INCLUDE REGEX "\\.h$")
set(cairn_sources ${cairn_files})
list(FILTER cairn_sources INCLUDE REGEX "\\.cc$")
# Compiled elsewhere: by its own project, or only where there is no CUDA toolkit. Not the tests, whose
# headers of others take most of the time, and which four configurations compile and run.
list(FILTER cairn_sources EXCLUDE REGEX "/(tests|python/native)/")
if(CUDAToolkit_FOUND)
  list(FILTER cairn_sources EXCLUDE REGEX "/cuda_device_absent\\.cc$")
else()
  list(FILTER cairn_sources EXCLUDE REGEX "/cuda_device\\.cc$")
endif()
# Peers whose headers are not here.
set(cairn_bench_sources "")
if(TARGET peers_bench)
  get_target_property(cairn_bench_sources peers_bench SOURCES)
endif()
foreach(peer IN ITEMS leveldb lmdb)
  if(NOT peers/${peer}_peer.cc IN_LIST cairn_bench_sources)
    list(FILTER cairn_sources EXCLUDE REGEX "/bench/peers/${peer}_peer\\.cc$")
  endif()
endforeach()

if(CAIRN_CLANG_FORMAT_USABLE)
  list(JOIN cairn_files "\n" cairn_list)
  file(WRITE ${PROJECT_BINARY_DIR}/tidy/files "${cairn_list}\n")
  foreach(target_and_mode IN ITEMS "format_check --dry-run --Werror" "format -i")
    separate_arguments(words UNIX_COMMAND "${target_and_mode}")
    list(POP_FRONT words target)
    add_custom_target(${target}
      COMMAND sh -c "files=$1; shift; tr '\\n' '\\0' <\"$files\" | xargs -0 \"$@\""
              format ${PROJECT_BINARY_DIR}/tidy/files ${CAIRN_CLANG_FORMAT} ${words} VERBATIM)
  endforeach()
else()
  add_custom_target(format_check COMMAND ${CMAKE_COMMAND} -E echo
    "format check skipped: no clang-format ${CAIRN_CLANG_TOOLS_VERSION}")
endif()

if(NOT CAIRN_CLANG_TIDY_USABLE)
  add_custom_target(tidy COMMAND ${CMAKE_COMMAND} -E echo
    "clang-tidy skipped: no clang-tidy ${CAIRN_CLANG_TOOLS_VERSION}")
  return()
endif()
set(cairn_stamps "")
# The static analyser's bound for a function, a tenth of its default: half of the time, and what it
# found here it found within.
set(cairn_analyzer_bound "")
foreach(word IN ITEMS -Xclang -analyzer-config -Xclang max-nodes=20000)
  list(APPEND cairn_analyzer_bound --extra-arg=${word})
endforeach()
# Headers of the project, and none that a build makes.
string(REGEX REPLACE "([][+.*()^?$|\\\\])" "\\\\\\1" cairn_root "${PROJECT_SOURCE_DIR}")
set(cairn_header_filter "^${cairn_root}/(include|src|io|tiers|tools|bench)/")
foreach(source IN LISTS cairn_sources)
  file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${source})
  set(stamp ${PROJECT_BINARY_DIR}/tidy/${name}.stamp)
  cmake_path(GET stamp PARENT_PATH folder)
  file(MAKE_DIRECTORY ${folder})
  # Its findings go to standard output; what it counts, of all headers of the system, to the other.
  add_custom_command(OUTPUT ${stamp}
    COMMAND sh -c "log=$1; shift; \"$@\" 2>\"$log\" || { grep -v generated \"$log\"; exit 1; }"
            tidy ${stamp}.log ${CAIRN_CLANG_TIDY} --quiet -p ${PROJECT_BINARY_DIR}
            --header-filter=${cairn_header_filter} ${cairn_analyzer_bound} ${source}
    COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
    DEPENDS ${source} ${cairn_headers} ${PROJECT_SOURCE_DIR}/.clang-tidy
    COMMENT "clang-tidy ${name}" VERBATIM)
  list(APPEND cairn_stamps ${stamp})
endforeach()
add_custom_target(tidy DEPENDS ${cairn_stamps})
