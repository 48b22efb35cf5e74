# Targets `format_check` and `format`, by clang-format 14: another version formats differently, so
# where only such a one is found they say so and pass.
set(CAIRN_CLANG_FORMAT_VERSION 14)

find_program(CAIRN_CLANG_FORMAT NAMES clang-format-${CAIRN_CLANG_FORMAT_VERSION} clang-format)
set(usable OFF)
if(CAIRN_CLANG_FORMAT)
  execute_process(COMMAND ${CAIRN_CLANG_FORMAT} --version OUTPUT_VARIABLE version)
  if(version MATCHES "version ${CAIRN_CLANG_FORMAT_VERSION}\\.")
    set(usable ON)
  endif()
endif()
if(NOT usable)
  add_custom_target(format_check COMMAND ${CMAKE_COMMAND} -E echo
    "format check skipped: no clang-format ${CAIRN_CLANG_FORMAT_VERSION}")
  return()
endif()

set(cairn_globs "")
foreach(folder IN ITEMS include src io tiers tools bench tests python)
  list(APPEND cairn_globs ${PROJECT_SOURCE_DIR}/${folder}/*.cc ${PROJECT_SOURCE_DIR}/${folder}/*.h
       ${PROJECT_SOURCE_DIR}/${folder}/*.c)
endforeach()
file(GLOB_RECURSE cairn_files CONFIGURE_DEPENDS ${cairn_globs})
list(JOIN cairn_files "\n" cairn_list)
file(WRITE ${PROJECT_BINARY_DIR}/format/files "${cairn_list}\n")
foreach(target_and_mode IN ITEMS "format_check --dry-run --Werror" "format -i")
  separate_arguments(words UNIX_COMMAND "${target_and_mode}")
  list(POP_FRONT words target)
  add_custom_target(${target}
    COMMAND sh -c "files=$1; shift; tr '\\n' '\\0' <\"$files\" | xargs -0 \"$@\""
            format ${PROJECT_BINARY_DIR}/format/files ${CAIRN_CLANG_FORMAT} ${words} VERBATIM)
endforeach()
