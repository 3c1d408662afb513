// The precompiled header of the verbs: ATen's, and CLI11's, which costs every file more than its own code does.
#pragma once
#include "../../cmake/pch.h"

#include <CLI/CLI.hpp>
