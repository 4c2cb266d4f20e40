# Spots that were given twice: the same place, the same values.

# Two spots are in one place if they are so close, as a share of the mean distance of spots spread over the
# tissue: in one dimension the square of it, or spots would be by chance.
same_place <- 1e-3

#' Say how many spots share their place, and leave out those that are copies of another one of their sample
#'
#' Repeated measurements share their place and differ in their noise. A copy has its original's noise,
#' too: every gene would be spatial, and spots near each other, in which it takes no part, would agree.
#'
#' @param input A `patina_input`.
#' @param settings From `new_settings()`: what the user said of each spot is kept for those that are left.
#' @param call The user's call, for the warning.
#' @returns A list: `settings`, and `input`, in which `given` are all spots, if some are left out; see
#'   `given_spots()`.
#' @noRd
leave_out_copies <- function(input, settings, call) {
  place <- shared_places(input$coords, input$sample_id)
  shared <- which(!is.na(place))
  if (length(shared) == 0L) {
    # values need no look
    return(list(input = input, settings = settings))
  }
  original <- shared[same_values(input, shared, place[shared])]
  copy <- shared[original != shared]
  if (length(copy) == 0L) {
    inform_patina(c(
      "{length(shared)} of {input$n_spots} spots are at the same place as another one.",
      i = "See Spots at the same place in {.help [spatial_test()](patina::spatial_test)}."
    ))
    return(list(input = input, settings = settings))
  }
  warn_patina(
    c(
      "{length(copy)} spot{?s} of {.arg x} {?is a copy/are copies} of another one, at the same place with
        the same expression: {.val {first_few(input$spots[copy])}}.",
      i = "Copies are no evidence of a pattern: each of these places counts once. See Spots at the same
        place in {.help [spatial_test()](patina::spatial_test)}."
    ),
    class = "copied_spots",
    call = call
  )
  input$samples <- with_variables(input$samples, settings$covariates)
  kept <- seq_len(input$n_spots)[-copy]
  given <- given_spots(input)
  given$row <- match(replace(given$row, shared, original), kept)
  size <- settings$size_factors
  if (is.numeric(size) && length(size) == length(given$row)) {
    own <- if (is.null(names_if_unique(size))) kept else match(input$spots[kept], names(size))
    settings$size_factors <- if (anyNA(own)) size else size[own]
  }
  input <- keep_spots(input, kept)
  input$given <- given
  check_locations(input, call)
  list(input = input, settings = settings)
}

#' The spots as they were given, copies among them
#' @returns A list: `spots`, `coords` and `sample_id`, as in `as_input()`, and `row`, which of the input's
#'   spots each one is, or is a copy of.
#' @noRd
given_spots <- function(input) {
  input$given %||%
    list(
      spots = input$spots,
      coords = input$coords,
      sample_id = input$sample_id,
      row = seq_len(input$n_spots)
    )
}

#' What a table says of the spots, as columns
#' @param given From `given_spots()`.
#' @noRd
spot_columns <- function(given) {
  c(list(spot = given$spots), sample_column(given$sample_id), as.data.frame(given$coords))
}

#' The table of the spots with the variables of a formula that are elsewhere
#' @noRd
with_variables <- function(samples, formula) {
  for (name in setdiff(all.vars(formula), names(samples))) {
    values <- rlang::env_get(rlang::f_env(formula) %||% baseenv(), name, NULL, inherit = TRUE)
    if (is.atomic(values) && length(values) == nrow(samples)) {
      samples[[name]] <- values
    }
  }
  samples
}

#' For some spots, which is the first of them that has the same values at the same place
#' @returns Positions in `spots`.
#' @noRd
same_values <- function(input, spots, place) {
  # two sums with unlike weights tell values apart; equal values have equal sums
  sums <- matrix(0, length(spots), 2L)
  expressed <- numeric(length(spots))
  for (genes in sparse_blocks(input)) {
    block <- input_stored_block(input, genes)
    block <- as.matrix(block[spots, , drop = FALSE])
    block[!is.finite(block)] <- 0
    expressed <- expressed + rowSums(block != 0)
    sums <- sums + block %*% cbind(cos(genes), cos(sqrt(2) * genes) + 2)
  }
  # a few values are the same by chance
  rich <- expressed >= min(5L, length(input$genes))
  key <- do.call(paste, data.frame(place, signif(sums, 12L)))
  own <- seq_along(spots)
  ifelse(rich, match(key, replace(key, !rich, NA)), own)
}

#' Numbers of the places that have several spots of a sample, by spot; `NA` for spots that are alone
#'
#' Cells of a grid that is finer than the spots by far; of several such grids, shifted by half a cell in
#' each direction, so that close spots share a cell in one of them.
#' @noRd
shared_places <- function(coords, sample_id) {
  n <- nrow(coords)
  d <- ncol(coords)
  extent <- apply(coords, 2L, \(x) diff(range(x)))
  size <- same_place^max(2 / d, 1) * mean_distance(coords)
  scaled <- sweep(coords, 2L, apply(coords, 2L, min)) / size
  cells <- ceiling(extent / size) + 2
  sample <- if (is.null(sample_id)) 0 else as.integer(sample_id) - 1
  place <- rep(NA_real_, n)
  shifts <- as.matrix(expand.grid(rep(list(c(0, 0.5)), d)))
  for (i in seq_len(nrow(shifts))) {
    index <- sample
    for (k in seq_len(d)) {
      index <- index * cells[[k]] + floor(scaled[, k] + shifts[i, k])
    }
    shared <- is.na(place) & (duplicated(index) | duplicated(index, fromLast = TRUE))
    place[shared] <- n * i + match(index[shared], index)
  }
  place
}

#' The mean distance of spots where they are: a curve, holes and spots far away make the box round them larger
#' @noRd
mean_distance <- function(coords) {
  n <- nrow(coords)
  from <- apply(coords, 2L, min)
  extent <- apply(coords, 2L, \(x) diff(range(x)))
  # in a unit in which products stay in range
  unit <- max(extent)
  extent <- extent / unit
  along <- which(extent > 1e-9)
  d <- length(along)
  volume <- prod(extent[along]) / n
  # as in spot_area()
  for (round in 1:10) {
    size <- (4 * volume)^(1 / d)
    index <- 0
    for (k in along) {
      index <- index * (ceiling(extent[[k]] / size) + 1) + floor((coords[, k] - from[[k]]) / unit / size)
    }
    smaller <- length(unique(index)) * size^d / n
    if (!is.finite(smaller) || smaller > 0.9 * volume) {
      break
    }
    volume <- smaller
  }
  unit * volume^(1 / d)
}
