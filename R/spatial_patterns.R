# Automatic expression histology: genes grouped by the spatial pattern that they share.

#' Group genes into tissue patterns
#'
#' Automatic expression histology (Svensson, Teichmann and Stegle 2018): genes that follow the same
#' spatial function are put together, and the function is estimated from all of them. The number of
#' patterns and their lengthscale may be given, or left to be chosen: the number by left-out spots, the
#' lengthscale by the evidence lower bound.
#'
#' Every gene is standardised to mean 0 and variance 1. The genes of pattern k are noisy copies of
#' one Gaussian process with the squared exponential kernel; processes, memberships and noise are
#' inferred together by variational inference, from several seeded starts. The run with the highest
#' bound wins. The result is the same on every run, for any number of threads.
#'
#' @section Which to use, patterns or factors:
#' Patterns sort genes: each gene belongs to one. For maps of the tissue, for genes that take part in several
#' programs, and for domains use [spatial_factors()] and [spatial_domains()].
#'
#' @section Choosing the number of patterns:
#' By default by left-out spots: a tenth of the spots (of up to 700 spots, four quarters in turn) is left out,
#' patterns are found from the others, and every gene is predicted at the left-out spots by its patterns.
#' Predictions grow better with the number of patterns until these follow the noise of the spots at hand.
#' Taken is the smallest number that predicts as well as the best one, within a standard error of the
#' difference over the left-out spots. For each number the lengthscale is the one with the highest bound.
#'
#' With `choose_by = "bound"` number and lengthscale have the highest bound. The bound cannot fall when one
#' more pattern is allowed, because a pattern may stay empty, and tends to grow as far as it is tried. A gene
#' that follows no other gene, such as a false hit of the test, gets a pattern of its own if there is one to
#' spare. The whole table is in `selection`; [plot_patterns()] says how the number was chosen.
#'
#' @inheritParams spatial_test
#' @param genes The genes to group. A character vector of names; or a result of [spatial_test()],
#'   perhaps filtered: if it has all genes of `x`, those with `qval` below 0.05 are taken, otherwise
#'   its genes as they are. `NULL` runs [spatial_test()] first. If `x` carries its own coordinates, a table
#'   of results may stand in the second place: `spatial_patterns(spe, hits)`.
#' @param n_patterns Number of patterns, or several to choose from; by default 2 to 8, and at most
#'   one for each two genes.
#' @param choose_by How the number of patterns is chosen, see below.
#' @param lengthscale Lengthscale of the patterns in units of `coords`, or several to choose from;
#'   by default those that occur in `genes` if it is a result of [spatial_test()] (each of at least
#'   5 % of the genes, at most five), otherwise a grid from the smallest distance to half of the
#'   largest; of these, those that can be had over so many spots, with a message if the shortest cannot.
#' @param restarts Number of starts for each number of patterns and lengthscale.
#' @param seed Seed of the starts, a whole number. R's own random numbers are neither used nor
#'   changed.
#' @param tolerance A run ends when an iteration raises the bound by less than this share of it.
#' @param max_iterations The most iterations of a run.
#' @param approximation How the kernels are decomposed. `"auto"` is `"exact"` up to 1,000 spots, and
#'   for lengthscales below 3 spacings of the spots up to 5,000; otherwise `"pivoted_cholesky"`,
#'   whose rank limits how short a lengthscale may be: on a lattice about 3 spacings with 20,000
#'   spots, 9 with 100,000. See Large tissues in [spatial_test()].
#' @returns An object of class `patina_patterns`, a list with the elements
#' * `genes`: a tibble of `gene`, `pattern` (1 is the pattern with the most genes; `NA` for a gene
#'   that could not be used) and `membership` (its probability, between 0 and 1), in the order of
#'   `genes`;
#' * `patterns`: a tibble of `spot`, `sample` (if there are several), the coordinates, `pattern` and `value`
#'   (posterior mean, in standard deviations of a gene), one row for each spot and pattern;
#'   [predict()][predict.patina_patterns] gives it in wide form, with standard errors and at other locations;
#' * `memberships`: the matrix of all memberships, genes × patterns, which are soft where a gene is between
#'   patterns: `print()` tells how many genes have none above 0.9;
#' * `elbo`: the evidence lower bound after each iteration of the winning run;
#' * `lengthscale`, `noise` (variance left to a gene within its pattern, of 1), `weights` (the
#'   patterns' shares of the genes);
#' * `selection`: a tibble of the `bound` for each `lengthscale` and `n_patterns`, with the number
#'   of patterns left (`found`), whether the run `converged`, and which was `chosen`;
#' * `held_out`: if the number was chosen by left-out spots, a tibble of `n_patterns`, their `lengthscale`,
#'   `r_squared` (the share of the genes' variance that is predicted at left-out spots) and `se` (the standard
#'   error of its difference from the best one); else `NULL`;
#' * `model`: what `predict()` needs.
#' @section Errors:
#' `patina_error_argument` for an argument outside its range, among them more patterns than genes;
#' `patina_error_approximation` if a lengthscale is too short for so many spots, or memory for
#' `approximation = "exact"`; `patina_error_names` if `genes` are not in `x`; `patina_error_data` if no gene
#' can be used. A gene that is constant or has values that are not finite gets the pattern `NA` and a warning
#' of class `patina_warning_genes`.
#' @references
#' V. Svensson, S. A. Teichmann, O. Stegle (2018). SpatialDE: identification of spatially variable
#' genes. *Nature Methods* 15. \doi{10.1038/nmeth.4636}
#' @seealso [plot_patterns()], [add_results()], [predict.patina_patterns()]
#' @export
#' @examples
#' tissue <- example_tissue(n_spots = 150, n_genes = 60)
#' coords <- tissue$sample_info[c("x", "y")]
#' genes <- tissue$truth$gene[tissue$truth$pattern != "none"]
#' fit <- spatial_patterns(tissue$counts, coords, genes, n_patterns = 2:5, threads = 1)
#' fit
#' fit$selection
spatial_patterns <- function(
  x,
  coords = NULL,
  genes = NULL,
  n_patterns = NULL,
  lengthscale = NULL,
  ...,
  choose_by = c("held_out", "bound"),
  restarts = 10L,
  seed = 1L,
  assay = "counts",
  normalization = c("pearson", "anscombe", "none"),
  covariates = NULL,
  size_factors = NULL,
  depth = c("auto", "shrunk", "regression", "offset"),
  sample_info = NULL,
  sample_id = NULL,
  tolerance = 1e-9,
  max_iterations = 1000L,
  approximation = c("auto", "exact", "pivoted_cholesky"),
  threads = NULL,
  progress = interactive()
) {
  from <- source_options(...)
  settings <- new_settings(normalization, covariates, size_factors, depth)
  approximation <- checked(rlang::arg_match(approximation))
  choose_by <- checked(rlang::arg_match(choose_by))
  run <- new_run(threads, progress = progress)
  check_pattern_settings(n_patterns, lengthscale, restarts, seed, tolerance, max_iterations, run$call)

  given <- results_for_coords(coords, genes, run$call)
  prepared <- prepare(x, given$coords, assay, from, sample_info, sample_id, settings, run)
  input <- prepared$input
  genes <- given$genes %||% test_before(prepared, approximation)
  chosen <- choose_genes(genes, input, "genes", run$call)
  expression <- pattern_expression(prepared, chosen$index)
  n_patterns <- resolve_n_patterns(n_patterns, ncol(expression$y), run$call)
  given_lengthscale <- !is.null(lengthscale)
  lengthscale <- lengthscale %||%
    default_lengthscales(chosen$results, input, expression$usable, run$call)

  spots <- sample_order(input)
  kernels <- data.frame(model = "SE", lengthscale = lengthscale)
  check_approximation(approximation, kernels, spots$sizes, run, arg = "lengthscale")
  # what predict() will need
  model <- list(
    coords = input$coords[spots$order, , drop = FALSE],
    order = spots$order,
    sizes = spots$sizes,
    given = given_spots(input),
    genes_of_x = length(input$genes),
    approximation = approximation,
    normalization = settings$normalization
  )
  settings <- list(
    n_patterns = as.integer(n_patterns),
    restarts = as.integer(restarts),
    seed = as.double(seed),
    tolerance = tolerance,
    max_iterations = as.integer(max_iterations)
  )
  y <- expression$y[model$order, , drop = FALSE]
  fit <- if (given_lengthscale) {
    fit_patterns(model, y, as.double(lengthscale), settings, run)
  } else {
    coarser <- scale_grid("lengthscale", input, run$call)
    fit_affordable_patterns(model, y, as.double(lengthscale), coarser, settings, run)
  }
  held_out <- if (choose_by == "held_out" && length(n_patterns) > 1L) {
    hold_out_spots(model, y, fit$selection, settings, run)
  }
  best <- which(as.logical(held_out$chosen))
  if (length(best) == 1L && held_out$n_patterns[[best]] != fit$n_patterns) {
    tried <- fit$selection
    settings$n_patterns <- held_out$n_patterns[[best]]
    fit <- fit_patterns(model, y, held_out$lengthscale[[best]], settings, run)
    tried$chosen <- tried$lengthscale == fit$lengthscale & tried$n_patterns == fit$n_patterns
    fit$selection <- tried
  }
  result <- new_patterns(fit, model, chosen$genes, expression$usable)
  result$held_out <- if (!is.null(held_out)) held_out[names(held_out) != "chosen"]
  say_choice(result, length(n_patterns) > 1L, length(lengthscale) > 1L)
  result
}

# Genes and defaults -----------------------------------------------------------------------------

check_pattern_settings <- function(n_patterns, lengthscale, restarts, seed, tolerance, max_iterations, call) {
  # Rust takes 32 bit integers
  check_whole_number(restarts, 1, .Machine$integer.max, call = call)
  check_whole_number(max_iterations, 1, .Machine$integer.max, call = call)
  check_whole_number(seed, call = call)
  check_number(tolerance, \(x) x > 0 && x < 1, "between 0 and 1", call = call)
  if (!is.null(n_patterns)) {
    check_n_patterns(n_patterns, call)
  }
  if (!is.null(lengthscale)) {
    check_lengthscales(lengthscale, "lengthscale", call)
  }
}

#' Normalised expression of the genes that can be used, centred within samples
#' @param spots Which spots; `NULL` means all.
#' @returns A list: `y`, spots × usable genes; `usable`, for each gene; and `means`, what was taken off usable
#'   genes: samples × genes, no row if there is one sample.
#' @noRd
pattern_expression <- function(prepared, index, spots = NULL) {
  input <- prepared$input
  block <- input_block(input, index, prepared$run$call)
  status <- gene_status(block)
  usable <- status == "ok"
  y <- prepared$normalizer(block[, usable, drop = FALSE], index[usable], prepared$run$threads)
  explained <- attr(y, "explained") %||% logical(ncol(y))
  sample_id <- input$sample_id
  if (!is.null(spots)) {
    y <- y[spots, , drop = FALSE]
    sample_id <- sample_id[spots]
    if (is.null(sample_id) && length(spots) < input$n_spots) {
      y <- y - rep(colMeans(y), each = nrow(y))
    }
  }
  largest <- apply(abs(y), 2L, max)
  means <- matrix(0, 0L, ncol(y))
  if (!is.null(sample_id)) {
    sample <- as.integer(sample_id)
    means <- rowsum(y, sample) / tabulate(sample)
    y <- y - means[sample, , drop = FALSE]
  }
  # A gene may be constant within each sample.
  spread <- apply(y, 2L, stats::sd)
  flat <- explained | !is.finite(spread) | spread <= 1e-10 * largest
  status[usable][flat] <- ifelse(explained[flat], "explained", "constant")
  y <- y[, !flat, drop = FALSE]
  usable <- status == "ok"
  bad <- sprintf("%s (%s)", input$genes[index], status)[!usable]
  if (length(bad) == length(usable)) {
    abort_patina(
      "None of the {length(bad)} gene{?s} can be used: {first_few(bad)}.",
      class = "data",
      call = prepared$run$call
    )
  }
  if (length(bad) > 0L) {
    warn_patina(
      "{length(bad)} gene{?s} cannot be used and {?is/are} left out: {first_few(bad)}.",
      class = "genes"
    )
  }
  list(y = y, usable = usable, means = means[, !flat, drop = FALSE])
}

resolve_n_patterns <- function(n_patterns, n_genes, call) {
  if (is.null(n_patterns)) {
    most <- max(1L, min(8L, n_genes %/% 2L))
    return(seq.int(min(2L, most), most))
  }
  if (max(n_patterns) > n_genes) {
    abort_patina(
      c(
        "{.arg n_patterns} is {max(n_patterns)}: more than the {n_genes} gene{?s} that can be
          used.",
        i = "Ask for at most one pattern for each gene."
      ),
      class = "argument",
      call = call
    )
  }
  sort(unique(n_patterns))
}

#' Lengthscales to choose from: those of the tested genes, else a grid over the distances
#' @noRd
default_lengthscales <- function(results, input, usable, call) {
  own <- results[["lengthscale"]][usable]
  if (!is.null(results[["model"]])) {
    own <- own[results$model[usable] %in% "SE"]
  }
  own <- own[is.finite(own) & own > 0]
  if (length(own) > 0L) {
    share <- sort(table(own) / length(own), decreasing = TRUE)
    common <- utils::head(share[share >= min(0.05, share[[1L]])], 5L)
    return(sort(as.numeric(names(common))))
  }
  # From half the spacing to twice the largest distance.
  grid <- scale_grid("lengthscale", input, call)
  inner <- grid[grid >= 2 * min(grid) & grid <= max(grid) / 4]
  # A few locations, or equal distances, leave none.
  if (length(inner) > 0L) inner else stats::median(grid)
}

# The fit ----------------------------------------------------------------------------------------

#' Patterns of those lengthscales that can be had over so many spots
#'
#' An engine that cannot serve a lengthscale says so before any work. Such lengthscales are left out, the
#' shortest first; if none is left, the shortest of `coarser` ones that can be had takes their place.
#' @noRd
fit_affordable_patterns <- function(model, y, lengthscale, coarser, settings, run) {
  wanted <- sort(unique(lengthscale))
  coarser <- sort(coarser[coarser > max(wanted)])
  attempts <- c(
    lapply(seq_along(wanted), \(i) wanted[i:length(wanted)]),
    as.list(utils::head(coarser, 8L))
  )
  for (attempt in attempts) {
    fit <- tryCatch(fit_patterns(model, y, attempt, settings, run), patina_error_approximation = identity)
    if (!rlang::is_condition(fit)) {
      if (min(attempt) > wanted[[1L]]) {
        inform_patina(c(
          i = "With {count_text(nrow(y))} spots patterns have a lengthscale of at least
            {signif(min(attempt), 3)}; finer ones cannot be had. Finer details need fewer spots: a part of the
            tissue, or spots added up to larger ones."
        ))
      }
      return(fit)
    }
  }
  rlang::cnd_signal(fit)
}

#' One call to Rust for as many lengthscales as there are threads
#' @returns The winner's list of rust_find_patterns(), with the table of all bounds as `selection`.
#' @noRd
fit_patterns <- function(model, y, lengthscale, settings, run) {
  lengthscale <- sort(unique(lengthscale))
  chunks <- split(lengthscale, (seq_along(lengthscale) - 1L) %/% run$threads)
  best <- NULL
  selection <- list()
  if (run$progress) {
    bar <- cli::cli_progress_bar("Finding patterns", total = length(chunks))
  }
  for (chunk in chunks) {
    fit <- call_rust(
      rust_find_patterns,
      model$coords,
      model$sizes,
      y,
      chunk,
      settings$n_patterns,
      settings$restarts,
      settings$seed,
      settings$tolerance,
      settings$max_iterations,
      model$approximation,
      run$threads,
      call = run$call
    )
    selection <- c(selection, list(tibble::as_tibble(fit$selection)))
    if (is.null(best) || utils::tail(fit$elbo, 1L) > utils::tail(best$elbo, 1L)) {
      best <- fit
    }
    if (run$progress) {
      cli::cli_progress_update(id = bar)
    }
  }
  if (run$progress) {
    cli::cli_progress_done(id = bar)
  }
  selection <- do.call(rbind, selection)
  selection$chosen <- selection$lengthscale == best$lengthscale &
    selection$n_patterns == best$n_patterns
  best$selection <- selection
  best
}

# Spots to leave out: four quarters in turn of few, a tenth of many.
few_spots <- 700L

#' How well each number of patterns predicts left-out spots
#'
#' @param selection Bounds of all fits, which give each number its lengthscale.
#' @returns A tibble of `n_patterns`, `lengthscale`, `r_squared`, `se` (of the difference from the best) and
#'   `chosen`; `NULL` if there are too few spots.
#' @noRd
hold_out_spots <- function(model, y, selection, settings, run) {
  folds <- spot_folds(model$sizes)
  if (is.null(folds)) {
    return(NULL)
  }
  best <- lapply(split(selection, selection$n_patterns), \(rows) rows[which.max(rows$bound), ])
  best <- do.call(rbind, best)
  settings$restarts <- min(settings$restarts, 3L)
  error <- matrix(0, nrow(y), nrow(best))
  total <- numeric(nrow(y))
  if (run$progress) {
    bar <- cli::cli_progress_bar("Leaving out spots", total = length(folds) * nrow(best))
  }
  sample <- rep(seq_along(model$sizes), model$sizes)
  for (out in folds) {
    part <- model
    part$coords <- model$coords[-out, , drop = FALSE]
    part$sizes <- tabulate(sample[-out], length(model$sizes))
    center <- colMeans(y[-out, , drop = FALSE])
    spread <- apply(y[-out, , drop = FALSE], 2L, stats::sd)
    # a gene may be constant without the left-out spots
    varies <- spread > 1e-10 * apply(abs(y), 2L, max)
    train <- y[-out, varies, drop = FALSE]
    truth <- t((t(y[out, varies, drop = FALSE]) - center[varies]) / spread[varies])
    total[out] <- rowSums(truth^2)
    for (i in seq_len(nrow(best))) {
      settings$n_patterns <- min(best$n_patterns[[i]], ncol(train))
      quiet <- replace(run, "progress", FALSE)
      fit <- fit_patterns(part, train, best$lengthscale[[i]], settings, quiet)
      there <- call_rust(
        rust_predict_patterns,
        part$coords,
        part$sizes,
        fit$lengthscale,
        fit$coefficients,
        fit$weights * ncol(train),
        fit$noise,
        model$coords[out, , drop = FALSE],
        sample[out],
        model$approximation,
        run$threads,
        call = run$call
      )
      error[out, i] <- rowSums((truth - there$value %*% t(fit$memberships))^2)
      if (run$progress) {
        cli::cli_progress_update(id = bar)
      }
    }
  }
  if (run$progress) {
    cli::cli_progress_done(id = bar)
  }
  used <- unlist(folds)
  error <- error[used, , drop = FALSE]
  total <- sum(total[used])
  top <- which.min(colSums(error))
  difference <- error - error[, top]
  se <- apply(difference, 2L, stats::sd) * sqrt(length(used)) / total
  r_squared <- 1 - colSums(error) / total
  tibble::tibble(
    n_patterns = best$n_patterns,
    lengthscale = best$lengthscale,
    r_squared = r_squared,
    se = se,
    chosen = seq_along(r_squared) == which(r_squared >= r_squared[[top]] - se)[[1L]]
  )
}

#' Rows to leave out in turn, always the same; the user's random numbers stay as they are
#' @noRd
spot_folds <- function(sizes) {
  n <- sum(sizes)
  if (n < 30L || any(sizes < 4L)) {
    return(NULL)
  }
  parts <- if (n <= few_spots) 4L else 10L
  # a low-discrepancy order, by sample
  place <- unlist(lapply(sizes, \(size) order(((seq_len(size) * 0.6180339887498949) %% 1))))
  start <- rep(cumsum(c(0L, sizes))[seq_along(sizes)], sizes)
  fold <- integer(n)
  fold[start + place] <- (sequence(sizes) - 1L) %% parts + 1L
  folds <- split(seq_len(n), fold)
  unname(if (n <= few_spots) folds else folds[1L])
}

#' Put names on what Rust found
#' @noRd
new_patterns <- function(fit, model, genes, usable) {
  ids <- seq_len(ncol(fit$values))
  given <- model$given
  back <- order(model$order)[given$row]
  pattern <- membership <- rep(NA, length(genes))
  pattern[usable] <- fit$assignment
  membership[usable] <- fit$memberships[cbind(seq_along(fit$assignment), fit$assignment)]
  model$coefficients <- fit$coefficients
  model$n_genes <- sum(usable)
  structure(
    list(
      genes = tibble::tibble(
        gene = genes,
        pattern = as.integer(pattern),
        membership = as.double(membership)
      ),
      patterns = field_table(
        spot_columns(given),
        list(value = fit$values[back, , drop = FALSE]),
        wide = FALSE,
        what = "pattern"
      ),
      memberships = matrix(
        fit$memberships,
        ncol = length(ids),
        dimnames = list(genes[usable], paste0("pattern_", ids))
      ),
      elbo = fit$elbo,
      lengthscale = fit$lengthscale,
      noise = fit$noise,
      weights = fit$weights,
      selection = fit$selection,
      model = model
    ),
    class = "patina_patterns"
  )
}

say_choice <- function(result, several_counts, several_lengthscales) {
  if (!several_counts && !several_lengthscales) {
    return(invisible())
  }
  tried <- result$selection
  found <- length(result$weights)
  lone <- tabulate(result$genes$pattern, found) == 1L
  held_out <- result$held_out
  predicted <- held_out$r_squared[held_out$n_patterns %in% tried$n_patterns[tried$chosen]]
  by_spots <- !is.null(held_out) && several_counts
  inform_patina(c(
    if (by_spots) {
      "{found} pattern{?s} at lengthscale {signif(result$lengthscale, 3)} {cli::qty(found)}predict{?s/}
        left-out spots as well as any number
        ({round(100 * max(predicted, 0, na.rm = TRUE), 1)} % of the variance)."
    } else {
      "{found} pattern{?s} at lengthscale {signif(result$lengthscale, 3)} {cli::qty(found)}{?has/have}
        the highest bound ({round(utils::tail(result$elbo, 1L), 2)})."
    },
    i = if (several_counts) {
      "Tried {min(tried$n_patterns)} to {max(tried$n_patterns)} patterns."
    },
    i = if (several_lengthscales) {
      "Tried {length(unique(tried$lengthscale))} lengthscales from
        {signif(min(tried$lengthscale), 3)} to {signif(max(tried$lengthscale), 3)}."
    },
    "!" = if (any(lone) && several_counts) {
      "{sum(lone)} pattern{?s} {?has/have} a single gene, which follows none of the others:
        {.val {first_few(result$genes$gene[result$genes$pattern %in% which(lone)])}}."
    },
    "!" = if (several_counts && found == max(tried$n_patterns)) {
      "This is the largest number tried: more may {if (by_spots) 'predict better' else 'raise the bound
        further'}, see {.arg n_patterns}."
    }
  ))
}
