/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "xml-scan.h"

static int collect(const char *path, const char *text, void *userdata)
{
        char *all = userdata;

        assert_true(strlen(all) + strlen(path) + strlen(text) + 3 < 1024);
        (void) sprintf(all + strlen(all), "%s=%s\n", path, text);
        return streq(text, "stop") ? 7 : 0;
}

/* The scanner gets an exact copy, so that ASan sees a read past the end. */
static int scan(const char *s, size_t size, char *all)
{
        _cleanup_free_ char *copy = malloc(size + (size == 0));

        assert_non_null(copy);
        memcpy(copy, s, size);
        all[0] = '\0';
        return xml_scan(copy, size, collect, all);
}

static void documents(void **state)
{
        static const struct {
                const char *xml, *leaves;
        } table[] = {
                {"<a/>",                                                                           "a=\n"                      },
                { "<a></a>",                                                                       "a=\n"                      },
                { " \r\n<?xml version=\"1.0\"?>\n<a x='>' y=\"/\">t</a >\n",                       "a=t\n"                     },
                { "<E><Code>No</Code>\n <M/><D><K>1</K></D></E>",                                  "E/Code=No\nE/M=\nE/D/K=1\n"},
                { "<a>&lt;&gt;&amp;&quot;&apos;&#65;&#x42;&#xe9;&#x20ac;&#x1F600;</a>",
                 "a=<>&\"'AB\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\n"                                                            },
                { "<a xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><b>&quot;e&quot;</b></a>",
                 "a/b=\"e\"\n"                                                                                                 },
                { "<a> x<b>1</b>y </a>",                                                           "a/b=1\n"                   },
        };

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                char all[1024];
                assert_int_equal(scan(table[i].xml, strlen(table[i].xml), all), 0);
                assert_string_equal(all, table[i].leaves);
        }
}

static void refused(void **state)
{
        static const char *const bad[] = {
                "",
                " ",
                "x",
                "<a>",
                "<a",
                "<",
                "</a>",
                "<a></b>",
                "<a><b></a></b>",
                "<a/><b/>",
                "<a/>x",
                "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
                "<!DOCTYPE a><a/>",
                "<a><!-- c --></a>",
                "<a><![CDATA[x]]></a>",
                "<a>&e;</a>",
                "<a>&</a>",
                "<a>&amp</a>",
                "<a>&#0;</a>",
                "<a>&#x110000;</a>",
                "<a>&#xd800;</a>",
                "<a>&#99999999999;</a>",
                "<a>&#;</a>",
                "<a>&#x;</a>",
                "<a>&#1a;</a>",
                "<a x=\"></a>",
                "<a x=1",
                "< a/>",
                "<a$/>",
                "<?xml",
                "<a><?x?></a>",
                "<a/",
                "</",
                "<a></a",
                "<></>",
        };
        char all[1024], deep[256] = "", nul[] = "<a>x\0y</a>";

        (void) state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (scan(bad[i], strlen(bad[i]), all) != -EBADMSG)
                        fail_msg("taken: %s", bad[i]);
        assert_int_equal(scan(nul, sizeof(nul) - 1, all), -EBADMSG);
        for (size_t i = 0; i <= XML_DEPTH_MAX; i++)
                (void) strcat(deep, "<a>");
        for (size_t i = 0; i <= XML_DEPTH_MAX; i++)
                (void) strcat(deep, "</a>");
        assert_int_equal(scan(deep, strlen(deep), all), -EBADMSG);
        assert_int_equal(scan(deep + 3, strlen(deep) - 7, all), 0);
        assert_int_equal(scan("<a><b>stop</b><b>2</b></a>", 26, all), 7);
        assert_string_equal(all, "a/b=stop\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(documents),
                cmocka_unit_test(refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
