#pragma once

// Marks what the shared library exports; everything else is hidden there.
#define CAIRN_EXPORT __attribute__((visibility("default")))
