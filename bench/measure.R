# What the benchmarks share: time and peak memory, each case in a process of its own.

library(patina)

# The largest resident memory of this process so far, in MB; NA where /proc does not tell.
peak_memory <- function() {
  status <- "/proc/self/status"
  if (!file.exists(status)) {
    return(NA_real_)
  }
  line <- grep("^VmHWM", readLines(status), value = TRUE)
  as.numeric(gsub("\\D", "", line)) / 1024
}

# Seconds of wall clock and of all cores.
timed <- function(expr) {
  time <- system.time(expr)
  c(wall = time[["elapsed"]], cpu = time[["user.self"]] + time[["sys.self"]])
}

# Runs this script again, in a new process, with other arguments.
in_new_process <- function(script, ...) {
  status <- system2(file.path(R.home("bin"), "Rscript"), c(shQuote(script), ...))
  if (status != 0L) {
    message("failed: ", paste(..., collapse = " "))
  }
  invisible(status == 0L)
}

this_script <- function() {
  file <- grep("^--file=", commandArgs(), value = TRUE)
  normalizePath(sub("^--file=", "", file[1L]))
}
