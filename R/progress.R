# Progress bars. Each closes with the function that asked for it, whatever ends that.

#' A function that moves the progress bar on by some genes or spots
#' @noRd
progress_bar <- function(progress, name, total, frame = parent.frame()) {
  if (!progress) {
    return(no_tick)
  }
  bar <- cli::cli_progress_bar(name, total = total, .envir = frame)
  function(done) cli::cli_progress_update(inc = done, id = bar, .envir = frame)
}

no_tick <- function(done) NULL

#' A function that shows how many steps are done, at once and with an estimate of the time left
#'
#' @returns A function of the steps done and of all that are known of, or `NULL`.
#' @noRd
steps_bar <- function(progress, name, frame = parent.frame()) {
  if (!progress) {
    return(NULL)
  }
  # more steps may become known on the way
  bar <- cli::cli_progress_bar(name, total = 100, .envir = frame)
  function(done, total) {
    share <- if (total > 0L) 100 * done / total else 0
    cli::cli_progress_update(set = min(share, 99), id = bar, force = TRUE, .envir = frame)
  }
}
