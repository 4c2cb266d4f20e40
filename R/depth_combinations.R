# Residuals beside depth as combinations of few functions; see combinations.R.
#
# With w = mu / sd a gene's residual at a zero count is -w, and its departure from depth has the direction
# (d - middle) w. Both are combinations of functions of the size factor, times d in the second, and so are
# their smooth parts, with the smooth parts of the functions. All inner products that the core's `Depth`
# takes over spots are quadratic forms in the coefficients, plus sums over a gene's entries.

#' Combinations of a normalizer beside depth
#'
#' @inheritParams depth_normalizer
#' @inheritParams regressed_combinations
#' @returns A list; see `combination_parts()`.
#' @noRd
depth_combinations <- function(depth, rates, weights, spread, regress, groups) {
  # a promise of them keeps the whole input, which workers would get
  force(groups)
  zeros <- depth_zeros(depth, rates)
  if (spread$tau == 0 && ncol(depth$covariates) == 0L) {
    regressed_combinations(zeros, regress, groups)
  } else {
    shrunk_combinations(zeros, depth, rates, weights, spread)
  }
}

#' Pearson residuals of zero counts, as combinations
#'
#' The residual `-sqrt(mu / (1 + phi mu))` with `mu = size * rate` at a few rates spans those at all rates,
#' because they are smooth: pivoted QR on some sizes chooses the rates.
#'
#' @returns A list for `regressed_combinations()`.
#' @noRd
depth_zeros <- function(depth, rates) {
  residual <- function(size, rates) {
    mu <- outer(size, rates)
    -sqrt(mu / (1 + depth$phi * mu))
  }
  bounded <- pmax(depth$size, depth$floor[depth$sample])
  positive <- range(rates[rates > 0])
  grid <- exp(seq(log(positive[1L]), log(positive[2L]), length.out = 48L))
  ends <- range(bounded)
  nodes <- c(
    stats::quantile(bounded, seq(0, 1, length.out = 200L), names = FALSE, type = 1L),
    seq(ends[1L], ends[2L], length.out = 100L)
  )
  nodes <- sort(unique(nodes))
  values <- residual(nodes, grid)
  few <- few_columns(values, sqrt(grid), tolerance = 1e-8)
  functions <- few$orthonormal_as(residual(bounded, grid[few$chosen]))
  at_rates <- \(rates) crossprod(few$orthonormal, residual(nodes, as.vector(rates)))
  list(
    # spots below the floor have the standard deviation of one at the floor
    functions = functions * (depth$size / bounded),
    grid = grid,
    at_rates = at_rates,
    coefficients = function(genes) {
      own <- rates[, genes, drop = FALSE]
      array(at_rates(own), c(length(few$chosen), dim(own)))
    },
    entries = function(raw, genes) {
      spot <- raw@i + 1L
      rate <- rates[cbind(depth$sample[spot], rep(genes, diff(raw@p)))]
      mu <- depth$size[spot] * rate
      at <- bounded[spot] * rate
      scale <- sqrt(at * (1 + depth$phi * at))
      limit <- sqrt(nrow(raw))
      entries <- pmax(pmin((raw@x - mu) / scale, limit), -limit) + mu / scale
      entries[mu == 0] <- 0
      entries
    }
  )
}

#' Few columns that span the others
#'
#' Pivoted QR chooses them.
#'
#' @param values A matrix.
#' @param sizes What to divide its columns by, for a like size, before some are chosen.
#' @param tolerance The share of the size of the largest column that may be missing of others.
#' @returns A list: `chosen`, the columns; `orthonormal`, a basis of them; and `orthonormal_as`, a function
#'   that turns the same columns of a matrix with other rows in the same way.
#' @noRd
few_columns <- function(values, sizes = 1, tolerance) {
  scaled <- qr(sweep(values, 2L, sizes, `/`), LAPACK = TRUE)
  size <- abs(diag(scaled$qr))
  used <- scaled$pivot[which(size > tolerance * size[1L])]
  own <- qr(values[, used, drop = FALSE], tol = 0)
  list(
    chosen = used[own$pivot],
    orthonormal = qr.Q(own),
    orthonormal_as = \(columns) t(backsolve(qr.R(own), t(columns), transpose = TRUE))
  )
}

#' Combinations of residuals whose slopes on depth are shrunk
#'
#' What `Depth::residuals()` of the core computes, gene by gene, from Gram matrices of the functions.
#'
#' @param zeros From `depth_zeros()`.
#' @noRd
shrunk_combinations <- function(zeros, depth, rates, weights, spread) {
  n <- length(depth$size)
  sample <- depth$sample
  patches <- depth_patches(depth)
  functions <- zeros$functions
  count <- ncol(functions)
  # constant, -w, d * -w, covariates
  all <- cbind(1, functions, depth$depth * functions, depth$covariates)
  smooth <- smooth_part_of(patches, all)
  leverage <- Matrix::rowSums(patches^2)
  rows <- split(seq_len(n), sample)
  gram <- lapply(rows, \(i) crossprod(all[i, , drop = FALSE]))
  smooth_gram <- lapply(rows, \(i) crossprod(smooth[i, , drop = FALSE]))
  errors <- lapply(list(rough = 1 - leverage, smooth = leverage), function(share) {
    list(
      gram = lapply(rows, \(i) {
        own <- functions[i, , drop = FALSE]
        crossprod(own, own * (share * depth$error)[i])
      }),
      own = vapply(rows, \(i) sum((share * depth$own * depth$size)[i]), numeric(1L))
    )
  })
  freedom <- n - sum(leverage) - ncol(depth$covariates) - 1
  constant <- 1L
  level <- 1L + seq_len(count)
  slope <- 1L + count + seq_len(count)
  covariate <- 1L + 2L * count + seq_len(ncol(depth$covariates))
  of_depth <- c(level, slope)
  # of the functions whose combination a direction is, in the coefficients of -w
  along_depth <- function(w, s) {
    energy <- colSums(w * (gram[[s]][level, level] %*% w))
    middle <- colSums(w * (gram[[s]][level, slope] %*% w)) / energy
    middle[!(energy > 0)] <- 0
    rbind(w * rep(middle, each = count), -w)
  }
  directions <- span_directions(
    do.call(cbind, lapply(seq_along(rows), \(s) along_depth(zeros$at_rates(zeros$grid), s))),
    Reduce(`+`, lapply(gram, \(g) g[of_depth, of_depth])),
    rep(sqrt(zeros$grid), length(rows))
  )

  block <- function(raw, genes) {
    entries <- raw
    entries@x <- zeros$entries(raw, genes)
    own <- zeros$coefficients(genes)
    by_sample <- lapply(rows, \(i) entries[i, , drop = FALSE])
    with_entries <- Map(\(i, e) as.matrix(crossprod_dense(all, i, e)), rows, by_sample)
    smooth_entries <- Map(\(i, e) as.matrix(crossprod_dense(smooth, i, e)), rows, by_sample)
    empty <- matrix(0, ncol(all), length(genes))
    # coefficients of the residuals without entries, and of the direction, in each sample
    residual <- direction <- list()
    for (s in seq_along(rows)) {
      w <- matrix(own[, s, ], count)
      r <- e <- empty
      r[level, ] <- w
      e[of_depth, ] <- along_depth(w, s)
      size <- length(rows[[s]])
      r[constant, ] <- -(gram[[s]][constant, ] %*% r + with_entries[[s]][constant, ]) / size
      e[constant, ] <- -(gram[[s]][constant, ] %*% e) / size
      residual[[s]] <- r
      direction[[s]] <- e
    }
    if (length(covariate) > 0L) {
      along <- function(parts, entries = NULL) {
        sums <- Map(\(g, x) g[covariate, , drop = FALSE] %*% x, gram, parts)
        extra <- lapply(entries, \(x) x[covariate, , drop = FALSE])
        Reduce(`+`, c(sums, extra))
      }
      r_along <- along(residual, with_entries)
      e_along <- along(direction)
      for (s in seq_along(rows)) {
        residual[[s]][covariate, ] <- -r_along
        direction[[s]][covariate, ] <- -e_along
      }
    }
    inner <- \(gram, x, y) Reduce(`+`, Map(\(g, a, b) colSums(a * (g %*% b)), gram, x, y))
    times <- \(x, entries) Reduce(`+`, Map(\(a, b) colSums(a * b), x, entries))
    square <- Matrix::colSums(entries^2)
    in_patches <- Matrix::crossprod(patches, entries)
    whole <- list(
      ee = inner(gram, direction, direction),
      er = inner(gram, direction, residual) + times(direction, with_entries),
      rr = inner(gram, residual, residual) + 2 * times(residual, with_entries) + square
    )
    part <- list(
      ee = inner(smooth_gram, direction, direction),
      er = inner(smooth_gram, direction, residual) + times(direction, smooth_entries),
      rr = inner(smooth_gram, residual, residual) +
        2 * times(residual, smooth_entries) +
        Matrix::colSums(in_patches^2)
    )
    rough <- Map(`-`, whole, part)
    known <- freedom >= 5
    variance <- if (known) {
      pmax(rough$rr - ifelse(rough$ee > 0, rough$er^2 / rough$ee, 0), 0) / freedom
    } else {
      whole$rr / (n - 1)
    }
    noise <- Reduce(
      `+`,
      lapply(seq_along(rows), \(s) {
        w <- matrix(own[, s, ], count)
        colSums(w * (errors$rough$gram[[s]] %*% w))
      })
    )
    itself <- colSums(rates[, genes, drop = FALSE] * errors$rough$own)
    slopes <- given_rough(rough, noise, weights[genes] * itself, variance, spread, known)

    left <- 1 / sqrt(1 + slopes$variance * part$ee / variance)
    excess <- (1 - left) * (part$er / part$ee - slopes$mean)
    excess[!(slopes$variance > 0 & part$ee > 0 & variance > 0)] <- 0
    times_gene <- \(coefficients, x) coefficients * rep(x, each = nrow(coefficients))
    joined <- lapply(seq_along(rows), function(s) {
      own <- residual[[s]]
      of_covariates <- direction[[s]][covariate, , drop = FALSE]
      e <- rbind(directions$coefficients(direction[[s]][of_depth, , drop = FALSE]), of_covariates)
      own[covariate, ] <- own[covariate, ] - times_gene(of_covariates, slopes$mean)
      within <- seq_len(ncol(directions$span))
      rbind(
        own[c(level, covariate), , drop = FALSE],
        -times_gene(e[within, , drop = FALSE], slopes$mean),
        -times_gene(e, excess)
      )
    })
    coefficients <- aperm(simplify2array(joined), c(1L, 3L, 2L))
    list(coefficients = coefficients, entries = entries)
  }
  of_directions <- \(functions) functions[, of_depth, drop = FALSE] %*% directions$span
  list(
    functions = cbind(
      all[, c(level, covariate), drop = FALSE],
      of_directions(all),
      of_directions(smooth),
      smooth[, covariate, drop = FALSE]
    ),
    block = block
  )
}

#' Few combinations that directions of all genes are combinations of
#'
#' Directions depend smoothly on the rate. What few leave out is within 1e-7 of the size of the directions
#' themselves, which enter a residual with the gene's departure.
#'
#' @param directions Coefficients of some directions: functions × directions.
#' @param gram Inner products of the functions.
#' @param sizes What to divide the directions by, for a like size.
#' @returns A list: `span`, functions × few, orthonormal as functions of the spots, and `coefficients`, a
#'   function that gives those of directions in them.
#' @noRd
span_directions <- function(directions, gram, sizes) {
  own <- eigen(gram, symmetric = TRUE)
  # coefficients whose inner product is that of the functions
  root <- sqrt(pmax(own$values, 0)) * t(own$vectors)
  directions <- sweep(directions, 2L, sizes, `/`)
  few <- few_columns(root %*% directions, tolerance = 1e-7)
  list(
    span = few$orthonormal_as(directions[, few$chosen, drop = FALSE]),
    coefficients = \(x) crossprod(few$orthonormal, root %*% x)
  )
}

#' Mean and variance of genes' departures given their rough part
#'
#' As the core's `Depth` has them.
#'
#' @param rough A list: `ee` and `er`, inner products of direction and residuals.
#' @param noise,itself What the error of the size factors adds, and what the gene's own counts add.
#' @noRd
given_rough <- function(rough, noise, itself, variance, spread, known) {
  tau2 <- spread$tau^2
  signal <- rough$ee - noise
  value <- (rough$er + noise - itself) / signal
  error2 <- variance * rough$ee / signal^2
  usable <- known & spread$rough_is_known & signal > 0.2 * rough$ee & is.finite(error2)
  kept <- tau2 / (tau2 + error2)
  list(
    mean = ifelse(usable, kept * value, 0),
    variance = ifelse(usable, kept * error2, tau2)
  )
}

#' The patches' functions: spots × functions, sparse and orthonormal
#' @noRd
depth_patches <- function(depth) {
  n <- length(depth$rows)
  width <- length(depth$basis) %/% n
  patch <- rep(seq_along(depth$starts[-1L]), diff(depth$starts))
  Matrix::sparseMatrix(
    i = rep(depth$rows + 1L, each = width),
    j = rep((patch - 1L) * width, each = width) + rep(seq_len(width), n),
    x = depth$basis,
    dims = c(n, width * (length(depth$starts) - 1L))
  )
}

smooth_part_of <- function(patches, values) {
  as.matrix(patches %*% Matrix::crossprod(patches, values))
}

crossprod_dense <- function(functions, rows, entries) {
  Matrix::crossprod(functions[rows, , drop = FALSE], entries)
}
