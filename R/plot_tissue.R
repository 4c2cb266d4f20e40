# Pictures of the tissue: genes and patterns, a panel each. All are plain ggplot objects.

#' Plot genes in the tissue
#'
#' One panel per gene. Spots have their size in the units of the coordinates, so that the picture looks
#' like the tissue at any size of the device: on a square or hexagonal lattice they are its tiles, elsewhere
#' discs, which cover as much of the tissue as there is of it for each spot. More than 20,000 spots are
#' drawn as pixels, each the mean of the spots in it. One coordinate gives lines along it; of three, `axes`
#' says which two are shown.
#'
#' @param x Expression: a data frame (spots in rows), a matrix, `dgCMatrix` or `DelayedMatrix`
#'   (genes in rows), or a `SummarizedExperiment` and what inherits from it, such as a
#'   `SpatialExperiment`. As for [spatial_test()].
#' @param coords Coordinates, one row per spot, in any unit of length. Not needed for a
#'   `SpatialExperiment`.
#' @param genes Names of genes, or a table of results with a column `gene`, possibly filtered or
#'   sorted: its first `n_genes` are shown. If `x` carries its own coordinates, such a table may stand in
#'   the second place: `plot_genes(spe, hits)`. Of genes that share a name, the first in `x` is shown.
#' @param ... Passed on to the geom, for instance `alpha`.
#' @param assay Which assay of a `SummarizedExperiment` to show.
#' @param normalization `"none"` shows the values as they are in `x`; `"pearson"` and `"anscombe"`
#'   show the residuals that [spatial_test()] would test.
#' @param covariates,size_factors,depth,sample_info,sample_id As for [spatial_test()]. With more than one
#'   sample, every sample is a row of panels, and its coordinates count from its own lowest.
#' @param scale `"free"`: every gene has its own colour scale, from its lowest to its highest value, which
#'   stand in the panel's title. `"shared"`: one scale, so that genes can be compared.
#' @param trim Share of spots at either end whose values may lie beyond the ends of the colour
#'   scale; they get the colour of the end. It keeps a few extreme counts from hiding the rest; 0
#'   shows the whole range. Lines are not trimmed.
#' @param axes Which two of three coordinates to show: numbers or names.
#' @param n_genes How many genes of a table of results to show, at most.
#' @param spot_size Draw discs of this diameter, in units of the typical (median) distance between
#'   neighbouring spots; by default shape and size follow from how the spots lie, in each sample.
#' @param unit Name of the coordinates' unit, such as `"mm"`: draws a scale bar.
#' @param ncol Number of columns of panels.
#' @return A ggplot object, to which scales, themes and titles can be added. Its data are a tibble
#'   with the columns `spot`, `sample` (of several), `x` and `y` (the coordinates), `gene`,
#'   `value` and `shown` (what the colour stands for).
#'
#' @section Errors:
#' `patina_error_argument` for an argument that does not make sense; `patina_error_names` for genes
#' that are not in `x`; and those of reading `x` and `coords`.
#'
#' @examples
#' tissue <- example_tissue()
#' coords <- tissue$sample_info[c("x", "y")]
#' plot_genes(tissue$counts, coords, genes = c("gene002", "gene004", "gene006"))
#'
#' # The genes with the smallest p-values, as the test sees them
#' results <- spatial_test(tissue$counts, coords, threads = 1)
#' top <- results[order(results$log10_pval), ]
#' plot_genes(tissue$counts, coords, genes = top, normalization = "pearson")
#' @export
plot_genes <- function(
  x,
  coords = NULL,
  genes = NULL,
  ...,
  assay = "counts",
  normalization = "none",
  covariates = NULL,
  size_factors = NULL,
  depth = "auto",
  sample_info = NULL,
  sample_id = NULL,
  scale = c("free", "shared"),
  trim = 0.01,
  axes = c(1, 2),
  n_genes = 6,
  spot_size = NULL,
  unit = NULL,
  ncol = NULL
) {
  call <- rlang::current_env()
  look <- new_look(checked(rlang::arg_match(scale)), trim, spot_size, unit, ncol)
  given <- results_for_coords(coords, genes, call)
  if (is.null(given$genes)) {
    abort_patina(
      c(
        "{.arg genes} is missing: which genes are to be shown?",
        i = "Give names, as in {.code genes = \"Penk\"}, or a table of results."
      ),
      class = "argument"
    )
  }
  run <- new_run(threads = 1, call = call)
  settings <- new_settings(normalization, covariates, size_factors, depth)
  dots <- rlang::list2(...)
  for_source <- names(dots) %in% c("layer", "image", "fov")
  from <- rlang::inject(source_options(!!!dots[for_source], call = call))
  prepared <- prepare(x, given$coords, assay, from, sample_info, sample_id, settings, run, plot = TRUE)
  input <- prepared$input
  index <- shown_genes(given$genes, input$genes, n_genes, call)
  values <- prepared$normalizer(input_block(input, index), index)
  values[!is.finite(values)] <- NA
  raw <- identical(normalization, "none") && is.null(covariates)
  if (!raw) {
    # the test does not depend on a residual's mean, so it is left where it falls
    values <- values - rep(colMeans(values, na.rm = TRUE), each = nrow(values))
  }

  axes <- shown_axes(input$coords, axes, call)
  names <- numbered_names(input$genes[index])
  row <- rep(seq_along(input$spots), times = length(index))
  data <- tibble::tibble(
    spot = input$spots[row],
    sample = input$sample_id[row],
    !!!place_columns(input$coords[row, axes, drop = FALSE]),
    gene = factor(rep(names, each = length(input$spots)), names),
    value = as.vector(values)
  )
  quantity <- if (raw) "expression" else "residual"
  rlang::inject(tissue_plot(data, "gene", input, axes, quantity, look, !!!dots[!for_source])) +
    ggplot2::theme(strip.text.x = ggplot2::element_text(face = "italic"))
}

#' Plot tissue patterns
#'
#' One panel per pattern, entitled with its number of genes.
#'
#' @param patterns Result of [spatial_patterns()].
#' @inheritParams plot_genes
#' @param scale `"shared"`: one colour scale for all patterns, in standard deviations of a gene.
#'   `"free"`: every pattern from its smallest to its largest value.
#' @return A ggplot object. Its data are a tibble with the columns `spot`, `sample` (of several; each is a
#'   row of panels), `x` and `y` (the coordinates), `pattern` (the panel's title), `value` and `shown` (what
#'   the colour stands for).
#'
#' @section Errors:
#' `patina_error_argument` if `patterns` is not a result of [spatial_patterns()], or an argument
#' does not make sense.
#'
#' @examples
#' tissue <- example_tissue()
#' patterns <- spatial_patterns(
#'   tissue$counts,
#'   tissue$sample_info[c("x", "y")],
#'   genes = tissue$truth$gene[tissue$truth$pattern != "none"],
#'   n_patterns = 4,
#'   lengthscale = 3,
#'   threads = 1
#' )
#' plot_patterns(patterns)
#' @export
plot_patterns <- function(
  patterns,
  ...,
  scale = c("shared", "free"),
  axes = c(1, 2),
  spot_size = NULL,
  unit = NULL,
  ncol = NULL
) {
  look <- new_look(checked(rlang::arg_match(scale)), trim = 0, spot_size, unit, ncol)
  check_patterns(patterns)
  table <- patterns$patterns
  ids <- sort(unique(table$pattern))
  n_genes <- tabulate(match(patterns$genes$pattern, ids), length(ids))
  counts <- paste(n_genes, ifelse(n_genes == 1L, "gene", "genes"))
  titles <- panel_title(paste("Pattern", ids), counts, table[["sample"]])
  coords <- as.matrix(table[setdiff(names(table), c("spot", "sample", "pattern", "value"))])
  axes <- shown_axes(coords, axes, rlang::current_env())
  data <- tibble::tibble(
    spot = table$spot,
    sample = table[["sample"]],
    !!!place_columns(coords[, axes, drop = FALSE]),
    pattern = factor(titles[match(table$pattern, ids)], titles),
    value = table$value
  )
  # every pattern lists the same spots
  one <- table$pattern == ids[[1L]]
  tissue <- list(coords = coords[one, , drop = FALSE], sample_id = table[["sample"]][one])
  quantity <- "standardised\nexpression"
  tissue_plot(data, "pattern", tissue, axes, quantity, look, ...) +
    ggplot2::labs(caption = pattern_choice(patterns))
}

#' How the number of patterns was chosen, or `NULL`
#' @noRd
pattern_choice <- function(patterns) {
  tried <- patterns$held_out
  if (is.null(tried)) {
    return(NULL)
  }
  shares <- sprintf("%d: %.1f", tried$n_patterns, 100 * tried$r_squared)
  paste0(
    "Number of patterns chosen by left-out spots; % of their variance predicted by\n",
    paste(shares, collapse = ", ")
  )
}

#' Positions in `known` of the genes to show: names, or the first `n` of a table of results
#' @noRd
shown_genes <- function(genes, known, n, call) {
  if (is.data.frame(genes)) {
    check_columns(genes, "gene", "genes", call)
    check_whole_number(n, min = 1, arg = "n_genes", call = call)
    genes <- unique(as.character(genes$gene))
    # A tested pseudo-gene is not in `x`; the next gene takes its place.
    absent <- setdiff(utils::head(genes, n), known)
    if (length(absent) > 0L && any(genes %in% known)) {
      inform_patina("Not in {.arg x}, so not shown: {.val {first_few(absent)}}.")
      genes <- genes[genes %in% known]
    }
    genes <- utils::head(genes, n)
  }
  match_genes(genes, known, "genes", call)
}

#' Names, those that occur more than once with a number behind
#' @noRd
numbered_names <- function(names) {
  number <- stats::ave(seq_along(names), names, FUN = seq_along)
  repeated <- names %in% names[duplicated(names)]
  ifelse(repeated, sprintf("%s (%d)", names, number), names)
}

#' What the user says of the panels' look
#' @noRd
new_look <- function(scale, trim, spot_size, unit, ncol, call = rlang::caller_env()) {
  check_number(trim, \(x) x >= 0 && x < 0.5, "from 0 to below 0.5", call = call)
  if (!is.null(spot_size)) {
    check_number(spot_size, \(x) x > 0 && x < Inf, "above 0", call = call)
  }
  if (!is.null(unit) && !rlang::is_string(unit)) {
    abort_patina(
      "{.arg unit} must be the name of the coordinates' unit, such as {.val mm}.",
      class = "argument",
      call = call
    )
  }
  if (!is.null(ncol)) {
    check_whole_number(ncol, min = 1, call = call)
  }
  list(scale = scale, trim = trim, spot_size = spot_size, unit = unit, ncol = ncol)
}

# Panels ------------------------------------------------------------------------------------------

#' Panels of spots in the tissue, or of lines for one coordinate
#'
#' @param data A tibble with x, y (unless there is one coordinate), value and the column `panel`.
#' @param tissue List with the spots' `coords` and, perhaps, `sample_id`.
#' @param axes Numbers of the shown coordinates.
#' @param quantity What `value` is, for the legend.
#' @param look From `new_look()`.
#' @noRd
tissue_plot <- function(data, panel, tissue, axes, quantity, look, ...) {
  if (length(axes) == 1L) {
    axis <- colnames(tissue$coords)[axes]
    return(line_plot(data, panel, axis, quantity, look, !is.null(tissue$sample_id), ...))
  }
  by_sample <- !is.null(tissue$sample_id)
  data <- side_by_side(data)
  # ggplot2 has one scale per plot: free ones are made by bringing every panel to 0..1.
  free <- look$scale == "free" && nlevels(data[[panel]]) > 1L
  panels <- if (free) data[[panel]] else factor(rep("all", nrow(data)))
  # by place, not by name: a gene's name may be empty
  rows <- unname(split(seq_len(nrow(data)), panels))
  ranges <- lapply(rows, \(own) trimmed_range(data$value[own], look$trim))
  data$shown <- data$value
  trimmed <- FALSE
  for (k in seq_along(rows)) {
    value <- data$value[rows[[k]]]
    data$shown[rows[[k]]] <- if (free) rescale(value, ranges[[k]]) else clamp(value, ranges[[k]])
    trimmed <- trimmed || any(value < ranges[[k]][1L] | value > ranges[[k]][2L], na.rm = TRUE)
  }
  title <- c(
    if (free) paste0(quantity, ",\nlow to high\nin each panel") else quantity,
    if (trimmed) sprintf("(%s %% at either\nend trimmed)", format(100 * look$trim))
  )
  titles <- panel_titles(levels(data[[panel]]), if (free) ranges)
  first <- data[[panel]] == levels(data[[panel]])[[1L]]
  if (by_sample) {
    first <- first & data$sample == levels(data$sample)[[1L]]
  }
  ggplot2::ggplot(data, ggplot2::aes(.data$x, .data$y, colour = .data$shown)) +
    spot_layers(tissue, axes, look, ...) +
    scale_bar(data[first, c("x", "y", panel, if (by_sample) "sample")], look$unit) +
    # a scale bar lies below the tissue
    ggplot2::coord_fixed(clip = if (is.null(look$unit)) "on" else "off") +
    (if (by_sample) {
      ggplot2::facet_grid(
        rows = ggplot2::vars(.data$sample),
        cols = ggplot2::vars(.data[[panel]]),
        labeller = ggplot2::labeller(.cols = titles)
      )
    } else {
      ggplot2::facet_wrap(
        ggplot2::vars(.data[[panel]]),
        ncol = look$ncol,
        labeller = titles
      )
    }) +
    ggplot2::scale_colour_viridis_c(
      limits = if (free) c(0, 1),
      breaks = if (free) c(0, 1) else ggplot2::waiver(),
      labels = if (free) c("low", "high") else ggplot2::waiver(),
      na.value = "grey80"
    ) +
    ggplot2::labs(
      x = colnames(tissue$coords)[axes[[1L]]],
      y = colnames(tissue$coords)[axes[[2L]]],
      colour = paste(title, collapse = "\n")
    ) +
    theme_tissue()
}

#' The samples of a table that may be filtered, without those that are not there; `NULL` if it has none
#' @noRd
shown_samples <- function(table) {
  sample <- table[["sample"]]
  if (!is.null(sample)) factor(sample)
}

#' Slides may lie anywhere: side by side, they start at the same place
#' @noRd
side_by_side <- function(data) {
  if (!is.null(data[["sample"]])) {
    data$x <- data$x - stats::ave(data$x, data$sample, FUN = min)
    data$y <- data$y - stats::ave(data$y, data$sample, FUN = min)
  }
  data
}

#' A layer of spots for each sample, since each may have a lattice of its own
#' @noRd
spot_layers <- function(tissue, axes, look, ...) {
  coords <- tissue$coords[, axes, drop = FALSE]
  if (is.null(tissue$sample_id)) {
    return(geom_spot(layout = spot_layout(coords, look$spot_size), ...))
  }
  lapply(levels(tissue$sample_id), function(id) {
    geom_spot(
      layout = spot_layout(coords[tissue$sample_id == id, , drop = FALSE], look$spot_size),
      data = function(data) data[data$sample == id, ],
      ...
    )
  })
}

#' A panel's title: what it shows and, in brackets, a detail
#'
#' Rows of samples do not wrap, and many panels are narrow: titles do.
#' @noRd
panel_title <- function(what, detail, sample_id) {
  paste0(what, if (is.null(sample_id) && length(what) <= 9L) " " else "\n", "(", detail, ")")
}

#' A labeller of panels; with scales of their own they say from where to where these go
#' @noRd
panel_titles <- function(names, ranges = NULL) {
  ends <- vapply(
    ranges,
    \(range) if (is.null(range)) "\nno values" else paste0("\n", paste(signif(range, 2L), collapse = " to ")),
    ""
  )
  titles <- paste0(names, ends)
  ggplot2::as_labeller(\(shown) titles[match(shown, names)])
}

#' Panels of lines along one coordinate
#' @noRd
line_plot <- function(data, panel, axis, quantity, look, by_sample, ...) {
  data <- data[order(data$x), ]
  mapping <- if (by_sample) {
    ggplot2::aes(.data$x, .data$value, colour = .data$sample)
  } else {
    ggplot2::aes(.data$x, .data$value)
  }
  colour <- if (by_sample) NULL else list(colour = "#31688E")
  line <- rlang::exec(
    ggplot2::stat_summary,
    # Spots at the same place: the line goes through their mean.
    fun = mean,
    geom = "line",
    na.rm = TRUE,
    !!!colour,
    ...
  )
  points <- rlang::exec(ggplot2::geom_point, size = 0.8, alpha = 0.6, na.rm = TRUE, !!!colour)
  plot <- ggplot2::ggplot(data, mapping) + points + line
  if (by_sample) {
    plot <- plot + ggplot2::scale_colour_viridis_d(name = "sample", end = 0.85)
  }
  plot +
    ggplot2::facet_wrap(
      ggplot2::vars(.data[[panel]]),
      ncol = look$ncol,
      scales = if (look$scale == "free") "free_y" else "fixed"
    ) +
    ggplot2::labs(x = axis, y = quantity) +
    theme_patina()
}

#' Columns x and y, or x alone
#' @noRd
place_columns <- function(coords) {
  list(x = unname(coords[, 1L]), y = if (ncol(coords) == 2L) unname(coords[, 2L]))
}

#' Numbers of the columns of the coordinates to show
#' @noRd
shown_axes <- function(coords, axes, call) {
  if (ncol(coords) == 1L) {
    return(1L)
  }
  shown <- if (is.character(axes)) {
    match(axes, colnames(coords))
  } else if (is.numeric(axes)) {
    match(axes, seq_len(ncol(coords)))
  }
  if (length(shown) != 2L || anyNA(shown) || shown[[1L]] == shown[[2L]]) {
    abort_patina(
      c(
        "{.arg axes} must be two different coordinates, not {.val {format(axes)}}.",
        i = "There are {ncol(coords)}: {.val {colnames(coords)}}."
      ),
      class = "argument",
      call = call
    )
  }
  shown
}

#' Range of `x` without the share `trim` at either end, unless nothing is left of it then; NULL if
#' there is no value
#' @noRd
trimmed_range <- function(x, trim) {
  x <- x[!is.na(x)]
  if (length(x) == 0L) {
    return(NULL)
  }
  range <- stats::quantile(x, c(trim, 1 - trim), names = FALSE)
  # A gene seen in few spots has most quantiles at zero.
  if (range[[1L]] < range[[2L]]) range else range(x)
}

#' What is beyond `range` to its ends
#' @noRd
clamp <- function(x, range) {
  if (is.null(range)) x else scales::oob_squish(x, range)
}

#' `range` to 0..1, what is beyond to the ends, a constant to the middle
#' @noRd
rescale <- function(x, range) {
  if (is.null(range)) {
    return(x)
  }
  width <- range[[2L]] - range[[1L]]
  if (width == 0) 0 * x + 0.5 else scales::oob_squish((x - range[[1L]]) / width)
}
