# The kernels that users can ask for, and over which lengthscales.

# A row for each family of kernels, whose formulas the core has. `lengthscale` is what users call it, or `NA`
# if there is none; those of `search` are model_search()'s own; `krylov` says which ones that engine serves.
kernel_families <- data.frame(
  label = c("SE (general)", "PER (periodic)", "linear", "Mat\u00e9rn 3/2 (rough)"),
  colour = c("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
  lengthscale = c("lengthscale", "period", NA, "lengthscale"),
  search = c(TRUE, TRUE, TRUE, FALSE),
  krylov = c(TRUE, FALSE, FALSE, TRUE),
  # lengthscales beyond which the square of the correlation is below 1e-12, which the core takes for 0
  reach = c(5.26, NA, NA, 9.64),
  row.names = c("SE", "PER", "linear", "matern32")
)

kernel_models <- row.names(kernel_families)

#' The kernels to try
#'
#' @param lengthscales The user's, also `"spatialde"`; `NULL` for the default.
#' @returns A data.frame with a row for each kernel: `model`, `lengthscale` (or period; `NA` for the
#'   linear kernel) and `group`; each gene gets the best kernel of each group.
#' @noRd
kernel_table <- function(kernels, lengthscales, input, call, by_model = FALSE) {
  unknown <- setdiff(kernels, kernel_models)
  if (!is.character(kernels) || length(kernels) == 0L || length(unknown) > 0L) {
    abort_patina(
      c(
        "{.arg kernels} must be one or more of {.val {kernel_models}}.",
        x = if (is.character(kernels) && length(unknown) > 0L) "It has {.val {first_few(unknown)}}."
      ),
      class = "argument",
      call = call
    )
  }
  if (!is.null(lengthscales) && !identical(lengthscales, "spatialde")) {
    check_lengthscales(lengthscales, "lengthscales", call)
  }
  tables <- lapply(unique(kernels), function(model) {
    scales <- if (!has_lengthscale(model)) {
      NA_real_
    } else if (is.numeric(lengthscales)) {
      sort(unique(as.double(lengthscales)))
    } else {
      scale_grid(lengthscales %||% kernel_families[model, "lengthscale"], input, call)
    }
    data.frame(model = model, lengthscale = scales)
  })
  table <- do.call(rbind, tables)
  if (is.numeric(lengthscales)) {
    table <- without_noise(table, input, call)
  }
  table$group <- if (by_model) match(table$model, unique(kernels)) else 1L
  table
}

#' Kernels without those that no data can tell from noise
#'
#' Those whose lengthscale is far below the distance of the two nearest spots.
#' @noRd
without_noise <- function(table, input, call) {
  reach <- kernel_families[table$model, "reach"]
  if (all(is.na(reach)) || !all(is.na(shared_places(input$coords, input$sample_id)))) {
    return(table)
  }
  # SpatialDE's begin with half the smallest distance
  nearest <- 2 * scale_grid("spatialde", input, call)[1L]
  noise <- !is.na(reach) & nearest > reach * table$lengthscale
  if (!any(noise)) {
    return(table)
  }
  left_out <- first_few(signif(table$lengthscale[noise], 3), 10L)
  models <- unique(table$model[noise])
  message <- c(
    "{sum(noise)} of {.arg lengthscales} {cli::qty(sum(noise))}{?is/are} too short for the {.val {models}}
      kernel{?s}: {left_out}.",
    x = "The two nearest spots are {signif(nearest, 3)} apart, and no two would be correlated."
  )
  if (all(noise)) {
    abort_patina(
      c(message, i = "Give longer ones, in units of {.arg coords}; or leave {.arg lengthscales} out."),
      class = "argument",
      call = call
    )
  }
  warn_patina(c(message, i = "All other kernels are fitted."), class = "kernels")
  table[!noise, ]
}

has_lengthscale <- function(model) {
  !is.na(kernel_families[model, "lengthscale"])
}

#' Lengthscales or periods over the distances within samples
#'
#' @param what `"lengthscale"` or `"period"`, or `"spatialde"` for its own grid for both.
#' @noRd
scale_grid <- function(what, input, call) {
  spots <- sample_order(input)
  call_rust(rust_scale_grid, input$coords[spots$order, , drop = FALSE], spots$sizes, what, call = call)
}

#' Warn of lengthscales or periods that no engine can take
#' @param left_out Their rows of a `kernel_table()`.
#' @noRd
report_left_out <- function(left_out, sizes) {
  if (nrow(left_out) == 0L) {
    return(invisible())
  }
  by_model <- split(left_out$lengthscale, factor(left_out$model, unique(left_out$model)))
  each <- vapply(
    names(by_model),
    function(model) {
      scales <- by_model[[model]]
      what <- kernel_families[model, "lengthscale"]
      cli::format_inline(
        "{length(scales)} {what}{cli::qty(length(scales))}{?s} of the {.val {model}} kernel:
          {first_few(signif(scales, 3), 10L)}."
      )
    },
    ""
  )
  warn_patina(
    c(
      "{nrow(left_out)} kernel{?s} {?is/are} too short for {sum(sizes)} spots and
        {cli::qty(nrow(left_out))}{?was/were} left out.",
      rlang::set_names(each, "x"),
      i = "All other kernels were fitted. {.arg lengthscales} says which to try."
    ),
    class = "kernels"
  )
}

#' Can this approximation serve these kernels, and has this machine the memory?
#'
#' @param kernels From `kernel_table()`.
#' @param sizes Spots in each sample.
#' @param run From `new_run()`.
#' @param arg The user's name for the lengthscales.
#' @param available Bytes of memory.
#' @noRd
check_approximation <- function(
  approximation,
  kernels,
  sizes,
  run,
  arg = "lengthscales",
  available = call_rust(rust_available_memory)
) {
  served <- switch(approximation, krylov = kernel_models[kernel_families$krylov], grid = "SE", kernel_models)
  others <- setdiff(kernels$model, served)
  if (length(others) > 0L) {
    abort_patina(
      c(
        "{.code approximation = \"{approximation}\"} cannot serve {.val {others}} kernels,
          only {.val {served}}.",
        i = "Leave {cli::qty(others)}{?it/them} out of {.arg kernels}, or use
          {.code approximation = \"auto\"}, which takes for each kernel what serves it."
      ),
      class = "approximation",
      call = run$call
    )
  }
  if (approximation == "exact") {
    # all eigenvectors, and a matrix, its eigenvectors and as much again at each decomposition
    matrices <- nrow(kernels) + 3 * min(run$threads, nrow(kernels))
    needed <- 8 * sum(as.double(sizes)^2) * matrices
    if (needed > available) {
      gigabytes <- sprintf("%.1f", c(needed, available) / 1e9)
      abort_patina(
        c(
          "{.code approximation = \"exact\"} takes too much memory with {sum(sizes)} spots and
            {nrow(kernels)} kernel{?s}.",
          x = "It needs about {gigabytes[1]} GB; {gigabytes[2]} GB are available.",
          i = "Use {.code approximation = \"auto\"}, or fewer {.arg {arg}}."
        ),
        class = "approximation",
        call = run$call
      )
    }
  }
}
