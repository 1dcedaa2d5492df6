/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_screen.h"

#include <curses.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "cli/top_live.h"

struct top_screen {
	SCREEN *terminal;
	bool colours;
	size_t rows, columns;
};

/* No yellow and no blue: each is unreadable on one of the two backgrounds. */
static const struct {
	short colour;  /* -1: the terminal's own */
	attr_t attributes;
} styles[TOP_STYLE_COUNT] = {
	[TOP_PLAIN] = { -1, A_NORMAL },          [TOP_DIM] = { -1, A_DIM },
	[TOP_LOSS] = { COLOR_RED, A_NORMAL },    [TOP_LOSS_HIGH] = { COLOR_RED, A_BOLD },
	[TOP_NETWORK] = { COLOR_MAGENTA, A_NORMAL }, [TOP_FAR] = { COLOR_CYAN, A_NORMAL },
	[TOP_OWN] = { COLOR_GREEN, A_NORMAL },   [TOP_STYLE_BOLD] = { -1, A_BOLD },
	[TOP_STYLE_TITLE] = { -1, A_REVERSE },   [TOP_STYLE_SELECTED] = { -1, A_REVERSE | A_BOLD },
	[TOP_STYLE_ALARM] = { COLOR_RED, A_REVERSE | A_BOLD },
};

static void start_colours(struct top_screen *s)
{
	const char *unwanted = getenv("NO_COLOR");

	if ((unwanted && unwanted[0]) || !has_colors() || start_color() == ERR || use_default_colors() == ERR)
		return;
	s->colours = true;
	for (short colour = COLOR_BLACK; colour <= COLOR_WHITE; colour++)
		init_pair((short)(colour + 1), colour, -1);
}

static void measure(struct top_screen *s)
{
	int rows, columns;

	getmaxyx(stdscr, rows, columns);
	s->rows = rows > 0 ? (size_t)rows : 1;
	s->columns = columns > 0 ? (size_t)columns : 1;
}

static bool has_cursor_address(void)
{
	char name[] = "cup";
	const char *sequence = tigetstr(name);

	return sequence && sequence != (char *)-1;
}

int top_screen_open(struct top_screen **ret_screen, struct error *ret_error)
{
	struct top_screen *s = calloc(1, sizeof(*s));
	const char *type = getenv("TERM");

	if (!s)
		return -ENOMEM;
	s->terminal = type && type[0] ? newterm(NULL, stdout, stdin) : NULL;
	if (!s->terminal || !has_cursor_address()) {
		top_screen_close(s);
		return error_set(ret_error, -EINVAL, "the terminal `%.40s` cannot show a screen; --batch prints a table, --json an object",
				 type ? type : "");
	}
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25);
	curs_set(0);
	start_colours(s);
	measure(s);
	*ret_screen = s;
	return 0;
}

void top_screen_close(struct top_screen *screen)
{
	if (!screen)
		return;
	if (screen->terminal) {
		curs_set(1);
		endwin();
		delscreen(screen->terminal);
	}
	free(screen);
}

int top_screen_key(struct top_screen *screen)
{
	int key = getch();

	switch (key) {
	case ERR: return TOP_KEY_NONE;
	case '\r': case KEY_ENTER: return TOP_KEY_ENTER;
	case KEY_UP: return TOP_KEY_UP;
	case KEY_DOWN: return TOP_KEY_DOWN;
	case KEY_LEFT: return TOP_KEY_LEFT;
	case KEY_RIGHT: return TOP_KEY_RIGHT;
	case KEY_PPAGE: return TOP_KEY_PAGE_UP;
	case KEY_NPAGE: return TOP_KEY_PAGE_DOWN;
	case KEY_HOME: return TOP_KEY_HOME;
	case KEY_END: return TOP_KEY_END;
	case KEY_BTAB: return TOP_KEY_BACK_TAB;
	case KEY_BACKSPACE: case 127: case 8: return TOP_KEY_BACKSPACE;
	case KEY_F(1): return TOP_KEY_HELP;
	case KEY_F(4): return TOP_KEY_FILTER;
	case KEY_F(6): return TOP_KEY_SORT;
	case KEY_F(10): return TOP_KEY_QUIT;
	case 'L' - '@': return TOP_KEY_REDRAW;
	default: return key <= 0xff ? key : 0;
	}
}

void top_screen_resized(struct top_screen *screen)
{
	struct winsize size;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col)
		resizeterm(size.ws_row, size.ws_col);
	clearok(curscr, TRUE);
	measure(screen);
}

void top_screen_redraw(struct top_screen *screen)
{
	clearok(curscr, TRUE);
}

size_t top_screen_rows(const struct top_screen *screen)
{
	return screen->rows;
}

size_t top_screen_columns(const struct top_screen *screen)
{
	return screen->columns;
}

void top_screen_begin(struct top_screen *screen)
{
	erase();
}

void top_screen_put(struct top_screen *screen, size_t row, size_t column, const char *text, int style)
{
	attr_t attributes = styles[style].attributes;
	char cut[4096];
	size_t width = top_width(text);

	if (row >= screen->rows || column >= screen->columns)
		return;
	if (width > screen->columns - column)
		text = top_fit(text, screen->columns - column, TOP_LEFT, cut, sizeof(cut));
	if (screen->colours && styles[style].colour >= 0)
		attributes |= (attr_t)COLOR_PAIR(styles[style].colour + 1);
	attrset(attributes);
	mvaddstr((int)row, (int)column, text);
	attrset(A_NORMAL);
}

void top_screen_end(struct top_screen *screen, size_t cursor_row, size_t cursor_column)
{
	bool shown = cursor_row < screen->rows && cursor_column < screen->columns;

	if (shown)
		move((int)cursor_row, (int)cursor_column);
	curs_set(shown);
	refresh();
}
