// Titles of samplers and schedules in A1111's web UI (modules/sd_samplers_*.py, sd_schedulers.py of version 1.10) and ids.
#include <array>

#include "generate/infotext.h"

namespace emulsion::generate {
namespace {

struct SamplerTitle {
  std::string_view id, title;
  std::string_view automatic;  // the schedule that the web UI takes for "Automatic"
};

constexpr std::array kSamplers = std::to_array<SamplerTitle>({
    {"euler_ancestral", "Euler a", "normal"},
    {"euler", "Euler", "normal"},
    {"lms", "LMS", "normal"},
    {"heun", "Heun", "normal"},
    {"dpm_2", "DPM2", "karras"},
    {"dpm_2_ancestral", "DPM2 a", "karras"},
    {"dpmpp_2s_ancestral", "DPM++ 2S a", "karras"},
    {"dpmpp_2m", "DPM++ 2M", "karras"},
    {"dpmpp_sde", "DPM++ SDE", "karras"},
    {"dpmpp_2m_sde", "DPM++ 2M SDE", "exponential"},
    {"dpmpp_3m_sde", "DPM++ 3M SDE", "exponential"},
    {"restart", "Restart", "karras"},
    {"lcm", "LCM", "normal"},
    {"ddim", "DDIM", "leading"},
    {"plms", "PLMS", "leading"},
    {"uni_pc", "UniPC", "leading"},
    // Not in the web UI; the names of its descendants.
    {"ddpm", "DDPM", "normal"},
    {"deis", "DEIS", "normal"},
});

/// Titles that are read besides those above.
constexpr std::array kOtherSamplers = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"Euler A", "euler_ancestral"},
    {"Euler Ancestral", "euler_ancestral"},
    {"DPM++ 2Sa", "dpmpp_2s_ancestral"},
    {"UniPC BH2", "uni_pc"},
});

constexpr std::array kSchedules = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"normal", "Uniform"},
    {"karras", "Karras"},
    {"exponential", "Exponential"},
    {"polyexponential", "Polyexponential"},
    {"sgm_uniform", "SGM Uniform"},
    {"simple", "Simple"},
    {"ddim_uniform", "DDIM"},
    {"beta", "Beta"},
    {"align_your_steps", "Align Your Steps"},
    {"normal", "Normal"},
});

std::string sampler_id(std::string_view title) {
  for (const SamplerTitle& row : kSamplers) {
    if (row.title == title) return std::string(row.id);
  }
  for (const auto& [other, id] : kOtherSamplers) {
    if (other == title) return std::string(id);
  }
  return std::string(title);
}

std::string schedule_id(std::string_view title) {
  for (const auto& [id, known] : kSchedules) {
    if (known == title) return std::string(id);
  }
  return std::string(title);
}

std::string automatic_schedule(std::string_view id) {
  for (const SamplerTitle& row : kSamplers) {
    if (row.id == id) return std::string(row.automatic);
  }
  return {};
}

}  // namespace

std::string sampler_title(std::string_view id) {
  for (const SamplerTitle& row : kSamplers) {
    if (row.id == id) return std::string(row.title);
  }
  return std::string(id);
}

std::string schedule_title(std::string_view id) {
  for (const auto& [known, title] : kSchedules) {
    if (known == id) return std::string(title);
  }
  return std::string(id);
}

SamplerIds sampler_ids(std::string_view sampler, std::string_view schedule) {
  SamplerIds ids{sampler_id(sampler), schedule_id(schedule)};
  if (ids.sampler == sampler && schedule.empty()) {
    for (const std::string_view old : {" Karras", " Exponential"}) {
      if (!sampler.ends_with(old)) continue;
      ids.sampler = sampler_id(sampler.substr(0, sampler.size() - old.size()));
      ids.schedule = schedule_id(old.substr(1));
    }
  }
  if (ids.schedule.empty() || ids.schedule == "Automatic") ids.schedule = automatic_schedule(ids.sampler);
  return ids;
}

}  // namespace emulsion::generate
