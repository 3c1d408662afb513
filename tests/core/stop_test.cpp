#include "core/stop.h"

#include <gtest/gtest.h>

#include <csignal>

namespace emulsion {
namespace {

class StopTest : public ::testing::Test {
 protected:
  StopTest() {
    install_stop_handlers();
    clear_stop();
  }
  ~StopTest() override { clear_stop(); }
};

TEST_F(StopTest, NobodyAskedAtFirst) { EXPECT_FALSE(stop_requested()); }

TEST_F(StopTest, InterruptAndTerminationAskToStop) {
  for (const int signal : {SIGINT, SIGTERM}) {
    clear_stop();
    std::raise(signal);
    EXPECT_TRUE(stop_requested()) << signal;
  }
}

TEST_F(StopTest, ASecondTerminationWaitsLikeTheFirst) {
  std::raise(SIGTERM);
  std::raise(SIGTERM);
  EXPECT_TRUE(stop_requested());
}

TEST_F(StopTest, ASecondInterruptEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        install_stop_handlers();
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      ::testing::ExitedWithCode(130), "");
}

TEST_F(StopTest, AProgramMayAskItself) {
  request_stop();
  EXPECT_TRUE(stop_requested());
}

}  // namespace
}  // namespace emulsion
