# The only gate to Rust: every compiled function is called through `call_rust()`.

#' Call a compiled function; its errors become classed conditions of the user's call
#'
#' @param fn A function of extendr-wrappers.R.
#' @param ... Its arguments, by position.
#' @noRd
call_rust <- function(fn, ..., call = rlang::caller_env()) {
  tryCatch(
    fn(...),
    error = function(cnd) abort_rust(conditionMessage(cnd), call)
  )
}

#' Signal an error of the core
#'
#' @param message What it says, with the kind of error in brackets in front if it is one of those told apart.
#' @noRd
abort_rust <- function(message, call) {
  kind <- sub("^\\[([a-z]+)\\] .*", "\\1", message)
  text <- sub("^\\[[a-z]+\\] ", "", message)
  switch(
    kind,
    # as if R had been interrupted itself
    interrupted = rlang::interrupt(),
    timeout = abort_patina(
      c(
        "The time limit was reached before the work was done.",
        i = "Allow more by {.code setTimeLimit(elapsed = )}; or test fewer genes at a time."
      ),
      class = "timeout",
      call = call
    ),
    unsupported = abort_patina(
      c(
        "A kernel cannot be had over so many locations.",
        x = "{text}",
        i = "Longer lengthscales can be had, and {.fn spatial_test} can do without likelihoods
          ({.code fit = \"moments\"}): set {.arg lengthscales} (or {.arg lengthscale}), and see Large
          tissues in {.help [spatial_test()](patina::spatial_test)}."
      ),
      class = "approximation",
      call = call
    ),
    wide = abort_patina(
      c(
        "{.code approximation = \"krylov\"} is for short lengthscales.",
        x = "{text}",
        i = "Leave {.arg approximation} out: {.val auto} takes an engine for each kernel that suits it.
          Or set shorter {.arg lengthscales}."
      ),
      class = "approximation",
      call = call
    ),
    memory = abort_patina(
      c(
        "There is too little memory.",
        x = "{text}",
        i = "Use fewer kernels or threads at a time, {.code approximation = \"auto\"}, or a machine with more
          memory."
      ),
      class = "memory",
      call = call
    ),
    argument = abort_patina(c("An argument cannot be used.", x = "{text}"), class = "argument", call = call),
    file = abort_patina(c("A file cannot be used.", x = "{text}"), class = "file", call = call),
    abort_patina(c("The compiled core reports an error.", x = "{text}"), class = "rust", call = call)
  )
}

.onLoad <- function(libname, pkgname) {
  call_rust(rust_silence_panics)
}
